"""Studies: all experiments of a report submitted together, their progress and verdicts."""

import time
from concurrent.futures import Future
from functools import partial

import streamlit as st

from dashboard.auth import session
from dashboard.components import verdicts
from dashboard.components.chart import live_chart
from dashboard.components.downloads import download_link
from dashboard.components.theme import badge, caption, counted, message, plain, roughly
from dashboard.live import pages, refresh
from dashboard.live.poller import ENDED
from ucurve.analysis.verdict_order import by_claim
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError
from ucurve.experiments.study import Study
from ucurve.experiments.study import figures as combined_figures
from ucurve.import_export import report
from ucurve.schemas.experiments import Experiment
from ucurve.spec import Verdict

# Seconds between combined verdicts while experiments run: they cost as much as an evaluation.
VERDICT_INTERVAL = 20.0


def card(study: Study) -> None:
    """Draw a study: description, experiments, combined verdicts."""
    page = pages.shared_query(
        f"study {study.name}",
        lambda client: client.experiments(tag=study.name, limit=200),
        interval=1,
    )
    experiments = study.newest(page.experiments) if page else []
    with st.container(border=True, key=f"study-{study.name.replace('.', '-')}"):
        text, actions = st.columns([3, 1.2], vertical_alignment="top")
        text.markdown(f"## {plain(study.title or study.name)}", anchors=False)
        text.markdown(plain(study.description))
        with actions.container(horizontal_alignment="right"):
            submit_button(study, experiments)
            if experiments:
                report_link(study, experiments)
        submit(study)
        if experiments:
            busy = any(experiment.state == "running" for experiment in experiments)
            for experiment in experiments:
                row(experiment, with_wait=not busy)
            combined_verdicts(study, experiments)
        else:
            caption(" · ".join(submission.name for submission in study.experiments))


def submit_button(study: Study, experiments: list[Experiment]) -> None:
    barred = session.cannot_submit()
    active = any(experiment.state not in ENDED for experiment in experiments)
    submitting = st.session_state.get("wanted") == study.name
    first = "Reproduce the report" if "report" in study.title else "Submit the study"
    st.button(
        "Submit again" if experiments else first,
        f"submit:{study.name}",
        barred or ("Existing evaluations are reused." if experiments else None),
        on_click=lambda: st.session_state.update(wanted=study.name, refused=None),
        type="secondary" if experiments else "primary",
        icon=":material/play_arrow:",
        disabled=submitting or active or barred is not None,
        width="stretch",
    )


def submit(study: Study) -> None:
    """Submit the study if its button was clicked, once its models and data are registered."""
    if st.session_state.get("wanted") == study.name:
        try:
            if pending := _prepare_and_submit(study):
                st.info(message(f"Waiting to submit: {pending}."), icon=":material/hourglass:")
                return
        except RequestRejectedError as error:
            st.session_state["refused"] = (study.name, str(error))
        except ApiUnavailableError:
            st.session_state["silence"] = pages.UNREACHABLE
            return
        st.session_state["wanted"] = None
        st.rerun(scope="fragment")
    name, problem = st.session_state.get("refused") or ("", "")
    if name == study.name:
        st.error(message(problem), icon=":material/block:")


def _prepare_and_submit(study: Study) -> str | None:
    """Register what the study needs; submit it or return what is still pending."""
    with st.spinner("Preparing models and data…" if study.suites else "Submitting…"):
        prepare = partial(pages.client().prepare, study)
        if pending := refresh.track(f"preparing {study.name}", prepare):
            return pending
        pages.client().submit_study(study)
        pages.invalidate(f"study {study.name}")
        return None


def row(experiment: Experiment, with_wait: bool) -> None:
    """Draw one experiment of a study.

    with_wait: show why it is queued, which is obvious while another one of the study runs.
    """
    progress = experiment.progress
    name, bar, state = st.columns([4, 4, 2], vertical_alignment="center", gap="medium")
    name.page_link(
        "app_pages/experiment.py",
        label=plain(experiment.name),
        query_params={"id": str(experiment.id)},
    )
    counts = f"{progress.done:,} of {counted(progress.total, 'evaluation')}"
    counts += f" · :red[{progress.failed:,} failed]" if progress.failed else ""
    counts += f" · {progress.reused:,} cached" if progress.reused else ""
    if experiment.eta_seconds is not None:
        counts += f" · {roughly(experiment.eta_seconds)} left"
    bar.progress(
        (progress.done + progress.failed) / max(progress.total, 1), text=f":small[{counts}]"
    )
    state.markdown(badge(experiment.state))
    if with_wait and experiment.waits_for and experiment.state == "queued":
        st.markdown(f":small[:orange[{plain(experiment.waits_for)}]]")


def combined_verdicts(study: Study, experiments: list[Experiment]) -> None:
    """Draw figures and verdicts of all experiments together."""
    if not any(experiment.progress.done for experiment in experiments):
        return
    latest = latest_verdicts(study, experiments)
    if not latest:
        caption("Computing combined verdicts…")
        return
    with st.expander("Combined verdicts", expanded=all_ended(experiments)):
        for name, figure in combined_figures(latest).items():
            live_chart(figure, key=f"study:{study.name}:{name}")
            caption(figure.caption)
        for claim in by_claim(latest):
            verdicts.claim_row(claim, study.name)


def all_ended(experiments: list[Experiment]) -> bool:
    return all(experiment.state in ENDED for experiment in experiments)


def latest_verdicts(study: Study, experiments: list[Experiment]) -> list[Verdict]:
    """Return the latest combined verdicts; newer ones are computed in the background."""
    cache = st.session_state.setdefault("judged", {}).setdefault(
        study.name, {"verdicts": [], "of": None, "request": None, "at": 0.0}
    )
    request: Future[list[Verdict]] | None = cache["request"]
    if request is not None and request.done():
        cache["request"] = None
        if request.exception() is None:
            cache["verdicts"] = request.result()
    counts = [(experiment.id, experiment.progress.done) for experiment in experiments]
    due = all_ended(experiments) or time.monotonic() - cache["at"] > VERDICT_INTERVAL
    if cache["request"] is None and cache["of"] != counts and due:
        ids = [experiment.id for experiment in experiments]
        cache.update(
            of=counts,
            at=time.monotonic(),
            request=pages.run_in_background(partial(pages.client().study_verdicts, ids)),
        )
    if cache["request"] is not None:
        refresh.track(f"judged {study.name}", cache["request"].done)
    return list(cache["verdicts"])


def report_link(study: Study, experiments: list[Experiment]) -> None:
    ids = [experiment.id for experiment in experiments]
    client = Client(pages.client().url, session.token(), timeout=120.0, source="dashboard")
    download_link(
        "Report (HTML)",
        lambda: report.html(report.collect(client, ids)),
        f"{study.name}.html",
        "text/html",
        f"report:{study.name}",
        framed=True,
        help="Figures, verdicts, settings and provenance in one file. Takes a few seconds.",
    )


def body() -> None:
    for study in pages.cached("studies", lambda: pages.client().studies()) or []:
        card(study)


st.title("Studies", anchor=False)
caption(
    "All experiments of a report, submitted together, with their combined verdicts. "
    "Evaluations are shared with other experiments of the lab."
)
pages.run(body, interval=2)
