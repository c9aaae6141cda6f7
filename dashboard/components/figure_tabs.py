"""The tabs and switches that choose which figure of an experiment is drawn.

One figure is drawn at a time, so that the first curve comes sooner and stands near the top. The
choice is in the address, so that a reload or a link shows the same figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import streamlit as st

from ucurve.figures import tabs
from ucurve.spec import Figure


def chosen(figures: Mapping[str, Figure], id: int) -> str:
    """Return the name of the figure to draw: the one chosen or linked to, else the first."""
    name = st.session_state.get(_key(id)) or st.query_params.get("figure", "")
    return name if name in figures else next(iter(figures))


def choose(id: int, name: str) -> None:
    """Show a figure from now on, and name it in the address."""
    st.session_state[_key(id)] = st.query_params["figure"] = name
    st.query_params.pop("point", None)


def draw(figures: Mapping[str, Figure], id: int) -> str:
    """Draw the controls; return the name of the figure to draw."""
    name = chosen(figures, id)
    names = tabs.tabs(figures)
    groups = [group for group in tabs.switches(figures, name) if len(group) > 1]
    if len(names) == 1 and not groups:
        return name
    with st.container(horizontal=True, key=f"figure-tabs-{id}", vertical_alignment="center"):
        if len(names) > 1:
            _control(
                "Figure",
                list(names),
                tabs.tab_of(figures[name]),
                f"tab:{id}",
                lambda tab: choose(id, names[tab][0]),
            )
        for index, options in enumerate(tabs.switches(figures, name)):
            if len(options) > 1:
                _control(
                    "Shown",
                    options,
                    figures[name].variant[index],
                    f"switch:{id}:{tabs.tab_of(figures[name])}:{index}",
                    partial(_switch, figures, id, name, index),
                )
    return name


def _switch(figures: Mapping[str, Figure], id: int, name: str, index: int, option: str) -> None:
    choose(id, tabs.switched(figures, name, index, option))


def _control(
    label: str, options: Sequence[str], current: str, key: str, act: Callable[[str], None]
) -> None:
    """Draw one choice; what was clicked before this run has been acted on by the callback."""
    st.session_state[key] = current
    st.segmented_control(
        label,
        options,
        required=True,
        key=key,
        label_visibility="collapsed",
        on_change=lambda: act(st.session_state[key]),
    )


def _key(id: int) -> str:
    return f"figure shown:{id}"
