"""The dashboard: pages, sign-in and files. Start: `streamlit run dashboard/serve.py`."""

import logging
import threading

import streamlit as st

from dashboard import browser_safety
from dashboard.auth import login
from dashboard.components import downloads
from dashboard.live import refresh
from dashboard.live.pages import warm_up
from ucurve.logs import configure_logs

configure_logs(logging.WARNING, own=("streamlit", "uvicorn"))
threading.Thread(target=warm_up, name="warm up", daemon=True).start()
app = st.App(
    "app.py",
    routes=[*login.ROUTES, *downloads.ROUTES, *refresh.ROUTES],
    middleware=browser_safety.MIDDLEWARE,
)
