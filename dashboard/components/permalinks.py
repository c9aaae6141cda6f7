"""Links to a page, a figure or an evaluation, and where they are copied from."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import streamlit as st

from dashboard.components.chart import FORMS
from dashboard.components.downloads import download_link
from ucurve.figures.annotated_files import cited_file
from ucurve.figures.citation import FigureSource
from ucurve.spec import Figure


def page_url(page: str, **query: Any) -> str:
    """Return the URL of a page as this browser reaches it.

    Lists become repeated parameters; empty values are left out.
    """
    here = urlsplit(str(st.context.url or ""))
    path = here.path.rsplit("/", 1)[0]  # a dashboard may be served under a prefix
    params = {name: value for name, value in query.items() if value not in (None, "", [], ())}
    return f"{here.scheme}://{here.netloc}{path}/{page}" + (
        f"?{urlencode(params, doseq=True, safe=',')}" if params else ""
    )


FORM_LABELS = {"csv": "CSV (data)", "json": "Vega-Lite"}


def copyable_link(url: str) -> None:
    """Draw a URL with a button that copies it."""
    st.caption("Link")
    st.code(url, language=None, wrap_lines=True)


def share_menu(figure: Figure, key: str, name: str, origin: FigureSource, url: str) -> None:
    """Draw a figure's menu: its files, which embed the link and a hash, and the link itself."""
    with (
        st.container(horizontal_alignment="right"),
        st.popover("", icon=":material/ios_share:", type="tertiary", help="Share / export"),
    ):
        for form in FORMS:
            label = FORM_LABELS.get(form, form.upper())
            download_link(
                label,
                partial(cited_file, figure, form, origin),
                f"{name}.{form}",
                FORMS[form],
                f"file:{key}:{form}",
            )
        copyable_link(url)
