"""The user's stars, which the shared list of experiments does not contain."""

from __future__ import annotations

import time

import streamlit as st

from dashboard.live import pages

MAX_AGE = 20.0  # seconds after which stars set in other sessions show


def starred(id: int) -> bool:
    cache: tuple[float, set[int]] | None = st.session_state.get("stars")
    if cache is None or time.monotonic() > cache[0] + MAX_AGE:
        cache = (time.monotonic(), set(pages.cached("stars", pages.client().stars) or ()))
        st.session_state["stars"] = cache
    return id in cache[1]


def set_star(id: int, starred: bool) -> None:
    """Remember that this session starred or unstarred the experiment."""
    stars: set[int] = st.session_state["stars"][1]
    (stars.add if starred else stars.discard)(id)
