"""Saves form input in the browser, so that reloads and dashboard restarts lose nothing.

    drafts.restored()   # False until the browser has answered; the page is redrawn then
    ...                 # forms, made with `widgets.persistent_widget`
    drafts.keep()

Each tab has its own drafts (sessionStorage), so that tabs do not overwrite one another; a new
tab starts with the latest of any tab (localStorage). Drafts of forms whose fields have changed
are dropped.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import uuid4

import streamlit as st

from dashboard.forms import delivery, widgets
from dashboard.forms.fields import fields
from ucurve.experiments import kinds

LOAD = """export default function ({ data, setStateValue }) {
  const key = "ucurve-drafts";
  let text = "";
  try { text = sessionStorage.getItem(key) ?? localStorage.getItem(key) ?? ""; } catch {}
  setStateValue("found", { session: data.session, text });
}"""
SAVE = """let answered = null;
export default function ({ data, setStateValue }) {
  const key = "ucurve-drafts";
  if (data.receipt && data.receipt !== answered) {
    answered = data.receipt;
    setStateValue("drawn", data.receipt);
  }
  try {
    if (sessionStorage.getItem(key) === data.text) return;
    sessionStorage.setItem(key, data.text);
    localStorage.setItem(key, data.text);
  } catch {}
}"""  # a browser may refuse storage
HIDDEN = "<style>.block-container { visibility: hidden; }</style>"


@st.cache_resource(show_spinner=False)
def _loader() -> Any:
    return st.components.v2.component("ucurve_drafts_ask", html="<i></i>", js=LOAD)


@st.cache_resource(show_spinner=False)
def _saver() -> Any:
    return st.components.v2.component("ucurve_drafts_keep", html="<i></i>", js=SAVE)


@st.cache_resource(show_spinner=False)
def _forms_version() -> str:
    """Return a hash that changes with the fields of any experiment type."""
    text = repr([fields(kind) for kind in kinds().values()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def restored() -> bool:
    """Return whether the browser's drafts are in the session.

    Until then the forms are drawn but hidden: after a restart of the dashboard the browser
    sends what was typed meanwhile, and only drawn widgets receive it.
    """
    place = st.container(key="drafts-ask")
    if st.session_state.get("restored"):
        return True
    session = st.session_state.setdefault("session", uuid4().hex)
    with place:
        answer = _loader()(
            key="drafts:ask", data={"session": session}, on_found_change=lambda: None, height=1
        ).found
    if not answer or answer["session"] != session:  # an answer to an earlier session
        place.markdown(HIDDEN, unsafe_allow_html=True)
        return False
    for key, value in _parsed(answer["text"]).items():
        if key not in st.session_state.get("typed", ()):
            widgets.set_value(key, value)
    st.session_state["restored"] = True
    return True


def cover() -> None:
    """Hide the forms until the browser has drawn what this page has set.

    A click on a form about to be filled would be undone by the filling. Call it when the drafts
    are restored and nothing is drawn yet.
    """
    with st.container(key="drafts-cover"):
        if delivery.under_way():
            st.markdown(HIDDEN, unsafe_allow_html=True)


def keep() -> None:
    """Send the drafts to the browser; call it when all fields are drawn."""
    place = st.container(key="drafts-keep")
    if st.session_state.get("restored"):
        drafts = st.session_state.get("drafts", {})
        text = json.dumps({"forms": _forms_version(), "drafts": drafts})
        with place:
            _saver()(
                key="drafts:keep",
                data={"text": text, "receipt": delivery.receipt()},
                on_drawn_change=_take_receipt,
                height=1,
            )


def _take_receipt() -> None:
    """Take the browser's receipt before the run it starts compares any field."""
    delivery.acknowledge(st.session_state["drafts:keep"].get("drawn"))


def _parsed(text: str) -> dict[str, Any]:
    try:
        stored = json.loads(text or "{}")
        return dict(stored["drafts"]) if stored.get("forms") == _forms_version() else {}
    except (ValueError, TypeError, KeyError, AttributeError):  # written by another program, or cut
        return {}


def forget(form: str) -> None:
    """Clear a form when it is drawn next: a widget that is drawn takes no other value."""
    st.session_state.setdefault("forgotten", set()).add(form)


def clear_forgotten(form: str) -> None:
    """Empty the fields of a form that was sent, but for its choice of a source."""
    if form not in st.session_state.get("forgotten", ()):
        return
    st.session_state["forgotten"].discard(form)
    for key in st.session_state.get("drafts", {}):
        if key.startswith(f"{form}:") and not key.endswith(":how"):
            widgets.set_value(key, "")
