"""The pages: navigation, and what every page shares. serve.py runs it."""

import streamlit as st

from dashboard.auth import session
from dashboard.components.chart import chart_library
from dashboard.components.theme import page_icon, style, wordmark
from dashboard.forms import widgets

st.set_page_config(page_title="ucurve", page_icon=page_icon(), layout="wide")
dark = st.context.theme.type == "dark"
st.html(f"<style>{style(dark)}</style>")
st.logo(wordmark(dark), size="large")
page = st.navigation(
    [
        st.Page(
            "app_pages/experiments.py",
            title="Experiments",
            icon=":material/stacked_line_chart:",
            default=True,
        ),
        st.Page("app_pages/new.py", title="New experiment", icon=":material/add:", url_path="new"),
        st.Page(
            "app_pages/compare.py",
            title="Compare",
            icon=":material/compare_arrows:",
            url_path="compare",
        ),
        st.Page(
            "app_pages/explorer.py",
            title="Explorer",
            icon=":material/travel_explore:",
            url_path="explorer",
        ),
        st.Page(
            "app_pages/studies.py",
            title="Studies",
            icon=":material/library_books:",
            url_path="studies",
        ),
        st.Page(
            "app_pages/suites.py",
            title="Suites and texts",
            icon=":material/layers:",
            url_path="suites",
        ),
        st.Page(
            "app_pages/workers.py", title="Workers", icon=":material/memory:", url_path="workers"
        ),
        st.Page("app_pages/people.py", title="People", icon=":material/group:", url_path="people"),
        st.Page(
            "app_pages/experiment.py",
            title="Experiment",
            url_path="experiment",
            visibility="hidden",
        ),
    ],
    position="top",
)
session.badge()
chart_library()
widgets.remember()
page.run()
