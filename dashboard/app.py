"""Navigation, and what every page shares. serve.py runs it."""

import streamlit as st

from dashboard.auth import session
from dashboard.components.chart import chart_library
from dashboard.components.theme import page_icon, style, wordmark
from dashboard.forms import widgets

PAGES = [  # file, which is also the path; title; icon
    ("new", "New experiment", "add"),
    ("compare", "Compare", "compare_arrows"),
    ("explorer", "Explorer", "travel_explore"),
    ("studies", "Studies", "library_books"),
    ("suites", "Models and data", "layers"),
    ("workers", "Status", "monitor_heart"),
    ("people", "People", "group"),
]

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
        *(
            st.Page(f"app_pages/{name}.py", title=title, icon=f":material/{icon}:", url_path=name)
            for name, title, icon in PAGES
        ),
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
