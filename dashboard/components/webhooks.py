"""Whether an experiment's webhook was called."""

from __future__ import annotations

import streamlit as st

from dashboard.components.theme import ago, counted, plain
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.schemas.webhooks import WebhookDelivery


@st.cache_data(ttl=5, show_spinner=False)
def _notices(experiment: int, version: int) -> list[WebhookDelivery]:
    return pages.client().webhook_deliveries(experiment)


def told(now: ExperimentSnapshot) -> None:
    """Nothing where there is no webhook; a warning where it could not be called."""
    if not now.experiment.webhook or not now.ended:
        return
    notices = pages.cached(f"notices {now.id}", lambda: _notices(now.id, now.cursor))
    if not notices:
        return
    last = notices[0]
    if last.delivered_at:
        st.markdown(f":small[:gray[{plain(last.host)} was told {ago(last.delivered_at)}.]]")
    elif last.error:
        then = "It is tried again." if last.due_at else "It was given up after a day."
        tries = counted(last.num_tries, "time") if last.num_tries > 1 else "once"
        st.warning(
            f"{plain(last.host)} could not be told, tried {tries}: {plain(last.error)}. {then}",
            icon=":material/notifications_off:",
        )
