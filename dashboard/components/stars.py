"""The stars of whoever looks: what sessions ask together does not say them."""

from __future__ import annotations

import time

import streamlit as st

from dashboard.live import pages

ASKED_AGAIN = 20.0  # seconds after which stars that were given elsewhere show


def starred(id: int) -> bool:
    held: tuple[float, set[int]] | None = st.session_state.get("stars")
    if held is None or time.monotonic() > held[0] + ASKED_AGAIN:
        held = (time.monotonic(), set(pages.cached("stars", pages.client().stars) or ()))
        st.session_state["stars"] = held
    return id in held[1]


def noted(id: int, starred: bool) -> None:
    """This session gave or took a star."""
    stars: set[int] = st.session_state["stars"][1]
    (stars.add if starred else stars.discard)(id)
