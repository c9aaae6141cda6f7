"""The state of the lab: workers, queue by user, recent failures grouped by cause."""

from pathlib import Path

import streamlit as st

from dashboard.auth import session
from dashboard.components import lab_status
from dashboard.components.lab_status import FailureView, StatusView, view
from dashboard.components.theme import caption, counted, empty_state, message, small
from dashboard.live import pages
from ucurve.client import ClientError

INTERVAL = 2.0  # seconds: as often as the API reads the state


def workers(status: StatusView) -> None:
    st.markdown("## Workers", anchors=False)
    if not status.has_workers:
        empty_state(
            "No workers yet",
            "Experiments stay queued until a worker starts. `ucurve up` starts workers; "
            "on another machine run `celery -A worker.queue worker -P threads -c 1` "
            "with this lab’s environment.",
        )
        return
    st.html(status.workers)
    for line in status.versions:
        st.markdown(small(line))


def queue(status: StatusView) -> None:
    st.markdown("## Queue", anchors=False)
    if status.queue:
        st.html(status.queue)
    else:
        caption("No evaluation is queued or running.")


def failures(status: StatusView) -> None:
    st.markdown("## Recent failures", anchors=False)
    if not status.failures:
        caption("No evaluation failed in the last seven days.")
        return
    caption(
        "By cause, over the last seven days. Archive or cancel an experiment to take its failures "
        "off this list."
    )
    for group in status.failures:
        failure(group)


def failure(group: FailureView) -> None:
    refusal = cannot_retry(group.owners)
    with st.container(border=True):
        text, button = st.columns([6, 1], vertical_alignment="center")
        with text:
            st.html(group.html)
        with button.container(horizontal_alignment="right"):
            st.button(
                "Retry",
                key=f"retry:{group.id}",
                icon=":material/replay:",
                on_click=retry,
                args=(group.id,),
                disabled=refusal is not None,
                help=refusal,
            )


def cannot_retry(owners: tuple[str, ...]) -> str | None:
    """Return why the user may retry none of these failures; None if they may retry some."""
    refusals = [session.cannot_steer(owner, "retry") for owner in owners]
    return None if None in refusals else next(iter(refusals), None)


def retry(cause: str) -> None:
    """Queue what failed for this cause again, where the user may."""
    try:
        retried = pages.client().retry_failures(cause)
    except ClientError as error:
        st.toast(message(str(error)), icon=":material/block:")
    else:
        queued = f"{counted(retried.retried, 'evaluation')} queued again."
        if retried.not_yours:
            queued += f" {retried.not_yours:,} belong to other users."
        st.toast(queued, icon=":material/replay:")
    pages.invalidate("status")


def body() -> None:
    status = pages.shared_query("status", lambda client: view(client.status()), INTERVAL)
    if status is None:
        return
    for warning in status.warnings:
        st.warning(warning, icon=":material/warning:")
    st.html(status.numbers)
    workers(status)
    queue(status)
    failures(status)


st.html(Path(lab_status.__file__).with_suffix(".css"))
st.title("Lab status", anchor=False)
pages.run(body, interval=INTERVAL)
