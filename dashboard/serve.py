"""The dashboard as it is served: pages, and beside them what signs in and out. Start: `streamlit run dashboard/serve.py`."""

import threading

import streamlit as st

from dashboard.sign_in import ROUTES
from dashboard.watch import warm_up

threading.Thread(target=warm_up, name="warm up", daemon=True).start()
app = st.App("app.py", routes=ROUTES)
