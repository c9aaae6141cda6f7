"""The dashboard as it is served: pages, beside them signing in and out, and files. Start: `streamlit run dashboard/serve.py`."""

import threading

import streamlit as st

from dashboard import downloads, pulse, sign_in
from dashboard.watch import warm_up

threading.Thread(target=warm_up, name="warm up", daemon=True).start()
app = st.App("app.py", routes=[*sign_in.ROUTES, *downloads.ROUTES, *pulse.ROUTES])
