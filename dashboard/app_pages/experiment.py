"""One experiment: its state and actions, live figures, verdicts and evaluations."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.auth import session
from dashboard.components import (
    evaluations,
    figures,
    remarks,
    reproducibility,
    toolbar,
    verdicts,
)
from dashboard.components.theme import (
    ago,
    duration,
    empty_state,
    kind_title,
    message,
    plain,
    roughly,
    small,
    state_badge,
)
from dashboard.components.webhooks import webhook_status
from dashboard.forms.parsing import parse_id, shortened
from dashboard.live import pages, refresh
from dashboard.live.poller import ExperimentSnapshot
from dashboard.live.snapshot import banner, load_snapshot
from ucurve.client import ClientError, RequestRejectedError

INTERVAL = 0.3  # seconds between polls
ENDED_INTERVAL = 5.0


def act(snapshot: ExperimentSnapshot, verb: str) -> None:
    """Pause, resume, cancel or retry; the page shows a refusal."""
    try:
        getattr(pages.client(), verb)(snapshot.id)
        pages.set_refusal(snapshot.id, None)
    except ClientError as error:
        pages.set_refusal(snapshot.id, str(error))


def header(snapshot: ExperimentSnapshot) -> None:
    experiment = snapshot.experiment
    with st.container(key="experiment-header"):
        name, controls = st.columns(2, vertical_alignment="top")
    with name:
        st.markdown(f"# {plain(experiment.name or f'Experiment {experiment.id}')}", anchors=False)
        tags = "".join(f" :gray-badge[{plain(tag)}]" for tag in experiment.tags)
        details = [
            kind_title(experiment.kind),
            f"#{experiment.id}",
            experiment.owner,
            ago(experiment.created_at),
        ]
        state = "" if snapshot.as_of else state_badge(experiment)  # the state of today
        if snapshot.ended:
            details.append(progress_text(snapshot))
        st.markdown(f"{state}{tags} {small(' · '.join(details))}")
    with controls:
        buttons(snapshot)
        toolbar.tools(snapshot)


def status(snapshot: ExperimentSnapshot) -> None:
    """Draw what is going on, and what went wrong."""
    experiment, progress = snapshot.experiment, snapshot.experiment.progress
    with st.container():
        if snapshot.as_of:
            banner(snapshot.as_of)
    with st.container(gap="xsmall"):
        if not snapshot.ended:
            st.progress(
                (progress.done + progress.failed) / max(progress.total, 1),
                text=progress_text(snapshot),
            )
            evaluations.running(snapshot)
    with st.container():
        evaluations.failures(snapshot)
    if refusal := pages.refusal(snapshot.id):
        st.warning(message(refusal), icon=":material/block:")
    if experiment.waits_for and experiment.state in ("queued", "running"):
        st.warning(message(experiment.waits_for), icon=":material/hourglass:")
    with st.container():
        remarks.section(snapshot)
        if not snapshot.verdicts:  # which show their caveats
            for warning in _said_of_plan(snapshot.id):
                if not any(remark in warning for remark in experiment.remarks):
                    st.warning(message(warning), icon=":material/compare_arrows:")
    with st.container():
        webhook_status(snapshot)
    with st.container():
        if experiment.notes:  # Markdown without images, which would be fetched from elsewhere
            st.markdown(experiment.notes.replace("![", "["))


def _said_of_plan(id: int) -> list[str]:
    """Return the warnings about the plan, remarks included, where this session submitted it."""
    submitted, warnings = st.session_state.get("plan warnings", (0, []))
    return list(warnings) if submitted == id else []


def progress_text(snapshot: ExperimentSnapshot) -> str:
    """Return counts, throughput, and the time left or taken, as far as they are known."""
    experiment, progress = snapshot.experiment, snapshot.experiment.progress
    parts = [f"{progress.done:,} of {progress.total:,} evaluations finished"]
    if progress.reused:
        parts.append(f"{progress.reused:,} cached")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if experiment.state == "running" and progress.points_per_second:
        rate = progress.points_per_second
        parts.append(f"{rate:.2g} per second" if rate >= 0.1 else f"{rate * 60:.2g} per minute")
    if experiment.eta_seconds is not None:
        parts.append(f"{roughly(experiment.eta_seconds)} left")
    elif snapshot.ended and experiment.started_at and experiment.finished_at:
        seconds = (experiment.finished_at - experiment.started_at).total_seconds()
        parts.append(f"took {duration(seconds)}")
    return " · ".join(parts)


def buttons(snapshot: ExperimentSnapshot) -> None:
    """Draw the actions that the state allows.

    Each has its own place: a button that moves while the page is redrawn loses the click.
    """
    state, failed = snapshot.experiment.state, snapshot.experiment.progress.failed
    active = state in ("queued", "running", "paused")
    with st.container(horizontal=True, horizontal_alignment="right"):
        retry, pause, cancel, compare, clone = (st.container(width=116) for _ in range(5))
    if state == "paused":
        action(pause, snapshot, "resume", "Resume", "play_arrow")
    elif active:
        action(
            pause,
            snapshot,
            "pause",
            "Pause",
            "pause",
            "Running evaluations stop unless another experiment needs them.",
        )
    if active:
        action(
            cancel,
            snapshot,
            "cancel",
            "Cancel",
            "close",
            "Finished evaluations are kept. Retry resumes the rest.",
        )
    if failed or state == "cancelled":
        action(
            retry if active else cancel,
            snapshot,
            "retry",
            "Retry",
            "replay",
            "Retries failed evaluations and resumes the remaining ones.",
        )
    _links(snapshot, compare, clone)


def _links(snapshot: ExperimentSnapshot, compare: DeltaGenerator, clone: DeltaGenerator) -> None:
    if compare.button(
        "Compare",
        icon=":material/compare_arrows:",
        width="stretch",
        help="Compare with other experiments.",
    ):
        st.switch_page("app_pages/compare.py", query_params={"ids": str(snapshot.id)})
    if clone.button(
        "Clone",
        icon=":material/content_copy:",
        width="stretch",
        help="Start a new experiment with these settings.",
    ):
        st.switch_page("app_pages/new.py", query_params={"clone": str(snapshot.id)})


def action(
    place: DeltaGenerator,
    snapshot: ExperimentSnapshot,
    verb: str,
    label: str,
    icon: str,
    help: str | None = None,
) -> None:
    barred = session.cannot_steer(snapshot.experiment.owner, verb)
    place.button(
        label,
        f"{verb}:{snapshot.id}",
        barred or help,
        on_click=act,
        args=(snapshot, verb),
        icon=f":material/{icon}:",
        disabled=barred is not None,
        width="stretch",
    )


def unavailable(id: int, error: RequestRejectedError) -> None:
    """Say why the experiment cannot be shown; the page stops polling."""
    refresh.stop()
    if error.status in (404, 410) and pages.has_existed(id):
        empty_state(
            f"Experiment {id} was deleted",
            "Its finished evaluations stay cached for other experiments.",
        )
    elif error.status in (404, 410):
        empty_state("No such experiment", f"This lab has no experiment {id}.")
    else:
        empty_state("This experiment cannot be shown", message(str(error)))


def details(snapshot: ExperimentSnapshot) -> None:
    """Draw one of the sections below the figure: verdicts, evaluations, or reproducibility."""
    sections = {"Verdicts": verdicts.section, "Evaluations": evaluations.section}
    if snapshot.experiment.fresh:  # what such an experiment was submitted for
        sections = {"Reproducibility": reproducibility.section, **sections}
    chosen = st.segmented_control(
        "Details",
        list(sections),
        default=next(iter(sections)),
        required=True,
        key=f"details:{snapshot.id}",
        label_visibility="collapsed",
    )
    with st.container(key=f"details-{chosen}"):  # not redrawn in place of one another
        sections[str(chosen)](snapshot)


def draw(snapshot: ExperimentSnapshot) -> None:
    """Draw each section in its own container, so that changes in one leave the charts mounted.

    The answer stands above the figure; both are drawn before what is below them.
    """
    for section in (header, status, verdicts.answer, figures.section, details):
        with st.container():
            section(snapshot)


def body() -> None:
    typed = st.query_params.get("id", "")
    if not typed:
        empty_state("No experiment selected", "Select one from the list of experiments.")
        return
    id = parse_id(typed)
    if id is None:
        empty_state("No such experiment", f"“{plain(shortened(typed))}” is not an experiment ID.")
        return
    if st.session_state.pop("deleted", None):
        st.switch_page("app_pages/experiments.py")
    as_of = st.query_params.get("at")
    try:
        snapshot = load_snapshot(id, as_of) if as_of else pages.current_snapshot(id)
    except RequestRejectedError as error:
        unavailable(id, error)
        return
    if snapshot is None:
        return
    figures.open_from_link(snapshot)
    draw(snapshot)
    if snapshot.complete != st.session_state.get("slow"):
        st.session_state["slow"] = snapshot.complete
        st.rerun()  # with the other polling interval


pages.run(body, interval=ENDED_INTERVAL if st.session_state.get("slow") else INTERVAL)
