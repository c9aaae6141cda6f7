"""The dashboard as it is served: pages, and beside them what signs in and out. Start: `streamlit run dashboard/serve.py`."""

import streamlit as st

from dashboard.sign_in import ROUTES

app = st.App("app.py", routes=ROUTES)
