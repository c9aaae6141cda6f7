"""Keeps values that a run sets until the browser has drawn them.

A browser sends all its fields with every click. A click made before it has drawn a new value
still sends the old one, which would undo a clone, a preset or a restored draft. `drafts.keep`
asks the browser for a receipt; until it comes, `stale` tells old values from the user's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import streamlit as st


@dataclass
class Sent:
    """A value on its way to the browser, and what the browser may send until it arrives."""

    value: Any
    older: list[Any] = field(default_factory=list)


def send(key: str, value: Any) -> None:
    """Note that a field is being set; call it before the session's value changes."""
    sent = _sent()
    older = sent[key].older if key in sent else []
    if key in st.session_state:
        shown = st.session_state[key]
        older = [*older, shown, *([""] if shown is None else [])]  # an empty text field is either
    sent[key] = Sent(value, [other for other in older if other != value])
    st.session_state["deliveries"] = st.session_state.get("deliveries", 0) + 1


def stale() -> dict[str, Any]:
    """Return the fields that arrived with a value from before they were set, with the new one."""
    again = {}
    for key, sent in list(_sent().items()):
        if key not in st.session_state or st.session_state[key] == sent.value:
            continue
        if st.session_state[key] in sent.older:
            again[key] = sent.value
        else:
            del _sent()[key]  # changed by the user since
    return again


def receipt() -> str | None:
    """Return what the browser has to answer once it has drawn this run, None for nothing."""
    session = st.session_state.get("session")
    return f"{session} {st.session_state['deliveries']}" if under_way() else None


def acknowledge(answer: str | None) -> None:
    """Take the browser's answer; one to an earlier run says nothing about later values."""
    if answer is not None and answer == receipt():
        _sent().clear()


def under_way() -> bool:
    """Return whether the browser may still show values from before."""
    return bool(_sent())


def _sent() -> dict[str, Sent]:
    return st.session_state.setdefault("sent values", {})  # type: ignore[no-any-return]
