"""The options of a comparison's figures: axes, colours, modifications, and A minus B."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.components import references
from ucurve.analysis.comparison import axes, quantities
from ucurve.client.comparisons import Comparison
from ucurve.figures.comparison import GROUPS, PlotOptions, values_of


def requested_options() -> PlotOptions:
    """Return the fields' values; before they are first drawn, those in the address."""

    def option(name: str, default: str = "") -> str:
        return str(st.session_state.get(name) or st.query_params.get(name, default))

    changes = st.session_state.get("change") or st.query_params.get_all("change")
    minus = tuple(filter(None, (option("a"), option("b"))))
    beside = st.session_state.get("beside") or st.query_params.get_all("beside")
    return PlotOptions(
        option("x"), option("y"), option("by", "side"), tuple(changes), minus, tuple(beside)
    )


def controls(comparison: Comparison) -> None:
    options, table = comparison.options, comparison.table
    xs, ys = axes(comparison.sides, table), quantities(comparison.sides, table)
    names = {side.key: f"#{side.id} {side.name}" for side in comparison.sides}
    y, x, by = st.columns(3)
    _select(y, "Metric", "y", list(ys), options.y, ys)
    _select(x, "X axis", "x", list(xs), options.x, xs)
    _select(by, "Colour by", "by", list(GROUPS), options.by, GROUPS)
    lines, a, b = st.columns([2, 1, 1])
    changes = list(comparison.changes)
    _drop_unless("change", set(st.session_state.get("change", [])) <= set(changes))
    lines.multiselect(
        "Modifications",
        changes,
        list(options.changes),
        key="change",
        on_change=_to_address,
        args=("change",),
    )
    with st.container():
        _references(comparison)
    members = values_of(table, options.by)
    for place, label, key, value in zip(
        (a, b), ("A", "B, subtracted from A"), "ab", (*options.minus, "", "")[:2], strict=True
    ):
        _select(place, label, key, members, value, names if options.by == "side" else {})


def _references(comparison: Comparison) -> None:
    curves = comparison.reference_options
    if not curves:
        return
    _drop_unless("beside", set(st.session_state.get("beside", [])) <= set(curves))
    references.choice(
        list(curves),
        [label for label in comparison.options.beside if label in curves],
        "beside",
        on_change=_to_address,
        args=("beside",),
    )


def _select(
    place: Any, label: str, key: str, options: list[str], value: str, titles: Mapping[str, str]
) -> None:
    _drop_unless(key, st.session_state.get(key) in options)
    place.selectbox(
        label,
        options,
        options.index(value) if value in options else None,
        lambda option: titles.get(option, option),
        key,
        on_change=_to_address,
        args=(key,),
        placeholder="",
    )


def _drop_unless(key: str, valid: bool) -> None:
    """Forget a value that belongs to experiments which are no longer compared."""
    if not valid:
        st.session_state.pop(key, None)


def _to_address(key: str) -> None:
    """Copy a field's value to the address, where fields take their first value from."""
    if st.session_state[key]:
        st.query_params[key] = st.session_state[key]
    else:
        st.query_params.pop(key, None)
