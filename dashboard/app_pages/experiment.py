"""One experiment: its state and controls, its figures filling in, what they say, and every measurement behind them."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.auth import session
from dashboard.components import (
    permalinks,
    provenance,
    references,
    reproducibility,
    results,
    toolbar,
    webhooks,
)
from dashboard.components.chart import composed, live_chart
from dashboard.components.theme import (
    ago,
    badge,
    caption,
    duration,
    empty_state,
    plain,
    roughly,
)
from dashboard.forms.parsing import parse_id, shortened
from dashboard.live import pages, refresh, snapshot
from dashboard.live.poller import ExperimentSnapshot
from ucurve.client import ClientError, RequestRejectedError
from ucurve.experiments import kinds
from ucurve.figures.citation import Origin
from ucurve.spec import Figure


def act(now: ExperimentSnapshot, verb: str) -> None:
    """Pause, resume, cancel or retry; a refusal is said on the page."""
    try:
        getattr(pages.client(), verb)(now.id)
        pages.set_refusal(now.id, None)
    except ClientError as error:
        pages.set_refusal(now.id, str(error))


def header(now: ExperimentSnapshot) -> None:
    experiment, progress = now.experiment, now.experiment.progress
    kind = kinds().get(experiment.kind)
    name, controls = st.columns(2, vertical_alignment="top")
    with name:
        st.markdown(f"# {plain(experiment.name or f'experiment {experiment.id}')}", anchors=False)
        tags = "".join(f" :gray-badge[{plain(tag)}]" for tag in experiment.tags)
        what = (kind and kind.title) or experiment.kind.replace("_", " ")
        words = (
            f"{what} · number {experiment.id} · {experiment.owner} · {ago(experiment.created_at)}"
        )
        state = "" if now.as_of else badge(experiment.state)  # today's
        st.markdown(f"{state}{tags} :small[:gray[{plain(words)}]]")
    with controls:
        buttons(now)
        toolbar.tools(now)
    with st.container():
        if now.as_of:
            snapshot.banner(now.as_of)
    st.progress((progress.done + progress.failed) / max(progress.total, 1), text=counts(now))
    if refusal := pages.refusal(now.id):
        st.warning(plain(refusal), icon=":material/block:")
    if experiment.waits_for and experiment.state in ("queued", "running"):
        st.warning(plain(experiment.waits_for), icon=":material/hourglass:")
    with st.container():
        webhooks.told(now)
    with st.container():
        if experiment.notes:  # Markdown, with nothing fetched from elsewhere
            st.markdown(experiment.notes.replace("![", "["))


def counts(now: ExperimentSnapshot) -> str:
    """How far it is, at what rate, and how long it will take, as far as that is known."""
    experiment, progress = now.experiment, now.experiment.progress
    parts = [f"{progress.done:,} of {progress.total:,} points measured"]
    if progress.reused:
        parts.append(f"{progress.reused:,} of them existed already")
    if progress.failed:
        parts.append(f":red[{progress.failed:,} failed]")
    if experiment.state == "running" and progress.points_per_second:
        rate = progress.points_per_second
        parts.append(f"{rate:.2g} points/s" if rate >= 0.1 else f"{rate * 60:.2g} points/min")
    if experiment.eta_seconds is not None:
        parts.append(f"{roughly(experiment.eta_seconds)} left")
    elif now.ended and experiment.started_at and experiment.finished_at:
        parts.append(
            f"took {duration((experiment.finished_at - experiment.started_at).total_seconds())}"
        )
    return " · ".join(parts)


def buttons(now: ExperimentSnapshot) -> None:
    """Only what the state allows. Each has its own place: a button that moves while the page is redrawn loses the click."""
    state, failed = now.experiment.state, now.experiment.progress.failed
    going = state in ("queued", "running", "paused")
    with st.container(horizontal=True, horizontal_alignment="right"):
        retry, pause, stop, compare, clone = (st.container(width=116) for _ in range(5))
    if state == "paused":
        button(pause, now, "resume", "Resume", "play_arrow")
    elif going:
        button(
            pause,
            now,
            "pause",
            "Pause",
            "pause",
            "What is being measured stops, too, unless another experiment wants it.",
        )
    if going:
        button(stop, now, "cancel", "Cancel", "close", "What is measured stays; Retry goes on.")
    if failed or state == "cancelled":
        button(
            retry if going else stop,
            now,
            "retry",
            "Retry",
            "replay",
            "Measures failed points again and goes on with what is left.",
        )
    if compare.button(
        "Compare",
        icon=":material/compare_arrows:",
        width="stretch",
        help="Lays it over other experiments.",
    ):
        st.switch_page("app_pages/compare.py", query_params={"ids": str(now.id)})
    if clone.button(
        "Clone",
        icon=":material/content_copy:",
        width="stretch",
        help="Opens the form with these settings.",
    ):
        st.switch_page("app_pages/new.py", query_params={"clone": str(now.id)})


def button(
    place: DeltaGenerator,
    now: ExperimentSnapshot,
    verb: str,
    label: str,
    icon: str,
    help: str | None = None,
) -> None:
    barred = session.cannot_steer(now.experiment.owner, verb)
    place.button(
        label,
        f"{verb}:{now.id}",
        barred or help,
        on_click=act,
        args=(now, verb),
        icon=f":material/{icon}:",
        disabled=barred is not None,
        width="stretch",
    )


def figures(now: ExperimentSnapshot) -> None:
    """Two abreast; one that consists of several panels has the row for itself. A click on a mark shows its provenance below."""
    with st.container():
        if now.figure_problem:
            st.error(
                f"The figures cannot be drawn: {plain(now.figure_problem)}", icon=":material/error:"
            )
        elif now.figures_cursor < 0:
            caption("The figures are being drawn.")
        elif not now.figures:
            caption("This kind draws no figures; the measurements are below.")
        now = references.over(now)
    rows: list[list[str]] = []
    for name, figure in now.figures.items():
        if composed(figure) or not rows or len(rows[-1]) == 2 or composed(now.figures[rows[-1][0]]):
            rows.append([name])
        else:
            rows[-1].append(name)
    for row in rows:
        whole = len(row) == 1 and composed(now.figures[row[0]])
        for column, name in zip(st.columns(1 if whole else 2, gap="large"), row, strict=False):
            with column:
                one_figure(now, name, now.figures[name])
        with st.container():
            if st.session_state.get("picked_in") in [(now.id, name) for name in row]:
                one_point(now)
    with st.container():
        if st.session_state.get("picked_in") == (now.id, ""):
            one_point(now)


def show_point(now: ExperimentSnapshot, point: int, figure: str) -> None:
    st.session_state["picked"], st.session_state["picked_in"] = point, (now.id, figure)
    st.session_state["point shown"] = (now.id, point)


def one_point(now: ExperimentSnapshot) -> None:
    provenance.provenance(now, st.session_state["picked"])
    permalinks.copied(
        permalinks.address(
            "experiment",
            id=now.id,
            at=now.as_of,
            figure=st.session_state["picked_in"][1],
            point=st.session_state["picked"],
        )
    )


def arrive(now: ExperimentSnapshot) -> None:
    """Open the figure and the point that the address names: once, for what is clicked later is in the address, too."""
    st.session_state.setdefault(f"arrived {now.id}", st.query_params.get("figure"))
    point = parse_id(st.query_params.get("point"))
    if (
        point is None
        or point not in now.rows
        or not (now.figures or now.figure_problem or now.ended)
    ):
        return
    if st.session_state.get("point shown") != (now.id, point):
        marked = [name for name, figure in now.figures.items() if point in points_of(figure)]
        named = st.query_params.get("figure", "")
        show_point(now, point, named if named in now.figures else next(iter(marked), ""))
    elif "picked_in" not in st.session_state:
        del st.query_params["point"]  # closed


def points_of(figure: Figure) -> set[int]:
    return {
        row["measurement"]
        for rows in figure.datasets.values()
        for row in rows
        if row.get("measurement") is not None
    }


def one_figure(now: ExperimentSnapshot, name: str, figure: Figure) -> None:
    title, corner = st.columns([6, 1], vertical_alignment="center")
    title.markdown(f"### {plain(figure.title)}", anchors=False)
    link = permalinks.address("experiment", id=now.id, at=now.as_of, figure=name)
    experiment = now.experiment
    asked = {"at": now.as_of} if now.as_of else {}
    origin = Origin(
        name, (now.id,), (experiment.name,), (experiment.spec,), pages.client().url, link, asked
    )
    with corner:
        permalinks.files_and_link(
            figure, f"{now.id}:{name}", f"ucurve-{now.id}-{name}", origin, link
        )
    picked = live_chart(
        figure,
        key=f"figure:{now.id}:{name}",
        focus=name == st.session_state.get(f"arrived {now.id}"),
    )
    if picked is not None:
        st.query_params["figure"], st.query_params["point"] = name, str(picked)
        show_point(now, picked, name)
    empty = "" if any(figure.datasets.values()) else "No result yet. "
    st.markdown(f":small[:gray[{empty}{plain(figure.caption)}]]")


def absent(id: int, error: RequestRejectedError) -> None:
    """Say why the experiment cannot be shown; the page does not poll any more."""
    refresh.stop()
    if error.status in (404, 410) and pages.has_existed(id):
        empty_state(
            f"Experiment {id} was deleted",
            "Its finished evaluations are kept and reused by other experiments.",
        )
    elif error.status in (404, 410):
        empty_state("No such experiment", f"There is no experiment {id} in this lab.")
    else:
        empty_state("This experiment cannot be shown", plain(str(error)))


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
    at = st.query_params.get("at")
    try:
        now = snapshot.load_snapshot(id, at) if at else pages.current_snapshot(id)
    except RequestRejectedError as error:
        absent(id, error)
        return
    if now is None:
        return
    arrive(now)
    # Each part in a container of its own: what comes and goes in one leaves the charts in the others mounted.
    parts = (header, figures, results.verdicts, reproducibility.section, results.measurements)
    places = {part: st.container() for part in parts}
    for part in sorted(
        parts, key=lambda part: part is not figures
    ):  # figures first: people wait for them
        with places[part]:
            part(now)
    if now.complete != st.session_state.get(
        "slow"
    ):  # an experiment at rest is looked at less often
        st.session_state["slow"] = now.complete
        st.rerun()


pages.run(body, interval=5 if st.session_state.get("slow") else 0.3)
