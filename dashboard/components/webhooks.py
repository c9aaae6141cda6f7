"""Whether an experiment's webhook was delivered."""

from __future__ import annotations

import streamlit as st

from dashboard.components.theme import ago, counted, plain, small
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.schemas.webhooks import WebhookDelivery


@st.cache_data(ttl=5, max_entries=100, show_spinner=False)
def _deliveries(experiment: int, version: int) -> list[WebhookDelivery]:
    return pages.client().webhook_deliveries(experiment)


def webhook_status(snapshot: ExperimentSnapshot) -> None:
    """Draw the latest delivery, as a warning if it failed; nothing without a webhook."""
    if not snapshot.experiment.webhook or not snapshot.ended:
        return
    deliveries = pages.cached(
        f"notices {snapshot.id}", lambda: _deliveries(snapshot.id, snapshot.cursor)
    )
    if not deliveries:
        return
    latest = deliveries[0]
    if latest.delivered_at:
        st.markdown(small(f"Webhook delivered to {latest.host} {ago(latest.delivered_at)}"))
    elif latest.error:
        attempts = counted(latest.num_tries, "attempt")
        outlook = "Retrying." if latest.due_at else "Gave up after a day."
        st.warning(
            f"Webhook delivery to {plain(latest.host)} failed ({attempts}): "
            f"{plain(latest.error)}. {outlook}",
            icon=":material/notifications_off:",
        )
