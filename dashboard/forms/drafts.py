"""Keeps what is typed into forms in the browser: a reload, a closed browser, a restarted dashboard lose nothing.

    known = drafts.restored()   # False at first: the browser is being asked, and the page is drawn again when it has answered
    ...                         # forms, by `inputs.kept`
    drafts.keep()

Each tab has drafts of its own (sessionStorage), so that tabs do not fight; a new one begins with the latest of any tab
(localStorage). Drafts of forms that have changed since are forgotten.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import uuid4

import streamlit as st

from dashboard.forms import widgets
from dashboard.forms.schema_form import fields
from ucurve.experiments import kinds

ASK = """export default function ({ data, setStateValue }) {
  let text = "";
  try { text = sessionStorage.getItem("ucurve-drafts") ?? localStorage.getItem("ucurve-drafts") ?? ""; } catch {}
  setStateValue("found", { session: data.session, text });
}"""
KEEP = """export default function ({ data }) {
  try {
    if (sessionStorage.getItem("ucurve-drafts") === data.text) return;
    sessionStorage.setItem("ucurve-drafts", data.text);
    localStorage.setItem("ucurve-drafts", data.text);
  } catch {}
}"""  # a browser may refuse its storage


@st.cache_resource(show_spinner=False)
def _asking() -> Any:
    return st.components.v2.component("ucurve_drafts_ask", html="<i></i>", js=ASK)


@st.cache_resource(show_spinner=False)
def _keeping() -> Any:
    return st.components.v2.component("ucurve_drafts_keep", html="<i></i>", js=KEEP)


@st.cache_resource(show_spinner=False)
def _forms() -> str:
    """Changes with the fields of any kind."""
    return hashlib.sha256(repr([fields(kind) for kind in kinds().values()]).encode()).hexdigest()[
        :16
    ]


def restored() -> bool:
    """Whether what the browser kept is in the session. Until then the forms are drawn, but not shown: after a restart of the
    dashboard the browser sends what was typed meanwhile, and only drawn widgets receive it."""
    place = st.container(key="drafts-ask")
    if st.session_state.get("restored"):
        return True
    session = st.session_state.setdefault("session", uuid4().hex)
    with place:
        found = _asking()(
            key="drafts:ask", data={"session": session}, on_found_change=lambda: None, height=1
        ).found
    if not found or found["session"] != session:  # an answer to the session before
        place.markdown(
            "<style>.block-container { visibility: hidden; }</style>", unsafe_allow_html=True
        )
        return False
    for key, value in _read(found["text"]).items():
        if key not in st.session_state.get("typed", ()):
            widgets.set_value(key, value)
    st.session_state["restored"] = True
    return True


def keep() -> None:
    """Hand the drafts to the browser; call it when all fields are drawn."""
    place = st.container(key="drafts-keep")
    if st.session_state.get("restored"):
        text = json.dumps({"forms": _forms(), "drafts": st.session_state.get("drafts", {})})
        with place:
            _keeping()(key="drafts:keep", data={"text": text}, height=1)


def _read(text: str) -> dict[str, Any]:
    try:
        kept = json.loads(text or "{}")
        return dict(kept["drafts"]) if kept.get("forms") == _forms() else {}
    except (ValueError, TypeError, KeyError, AttributeError):  # somebody else's, or cut off
        return {}
