"""Addresses that lead back to a page, a figure or a point, and the places from which they are copied."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import streamlit as st

from dashboard.components.chart import FORMS
from dashboard.components.downloads import offer
from ucurve.figures.annotated_files import cited_file
from ucurve.figures.citation import Origin
from ucurve.spec import Figure


def address(page: str, **query: Any) -> str:
    """Of a page of this dashboard as this browser reaches it; lists are repeated, what is empty is left out."""
    here = urlsplit(str(st.context.url or ""))
    path = here.path.rsplit("/", 1)[0]  # a dashboard may live below a prefix
    kept = {name: value for name, value in query.items() if value not in (None, "", [], ())}
    return f"{here.scheme}://{here.netloc}{path}/{page}" + (
        f"?{urlencode(kept, doseq=True, safe=',')}" if kept else ""
    )


def copied(link: str) -> None:
    """The address with a button that copies it."""
    st.caption("Link")
    st.code(link, language=None, wrap_lines=True)


def files_and_link(figure: Figure, key: str, name: str, origin: Origin, link: str) -> None:
    """What a figure's corner offers: its files, which carry the link and a hash, and the link itself."""
    with (
        st.container(horizontal_alignment="right"),
        st.popover("", icon=":material/ios_share:", type="tertiary", help="Files and link"),
    ):
        for form in FORMS:
            label = f"{form.upper()}{' of the rows' if form == 'csv' else ''}"
            offer(
                label,
                partial(cited_file, figure, form, origin),
                f"{name}.{form}",
                FORMS[form],
                f"file:{key}:{form}",
            )
        copied(link)
