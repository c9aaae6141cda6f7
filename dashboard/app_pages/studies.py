"""Studies: all experiments of a report by one click, how far they are, and what they say together."""

import time
from concurrent.futures import Future
from functools import partial

import streamlit as st

from dashboard.auth import session
from dashboard.components import results
from dashboard.components.chart import live_chart
from dashboard.components.downloads import offer
from dashboard.components.theme import badge, caption, counted, plain, roughly
from dashboard.live import pages, refresh
from ucurve.analysis.verdict_order import by_claim
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError
from ucurve.experiments import study
from ucurve.experiments.study import Study
from ucurve.import_export import report
from ucurve.schemas.experiments import Experiment
from ucurve.spec import Verdict

ENDED = ("done", "failed", "cancelled")
PATIENCE = (
    20.0  # seconds between verdicts while measuring goes on: they are as much work as a measurement
)


def card(one: Study) -> None:
    """A study: what it is, its experiments, what they say."""
    found = pages.shared_query(
        f"study {one.name}", lambda client: client.experiments(tag=one.name, limit=200), interval=1
    )
    experiments = one.newest(found.experiments) if found else []
    with st.container(border=True, key=f"study-{one.name.replace('.', '-')}"):
        words, action = st.columns([3, 1.2], vertical_alignment="top")
        words.markdown(f"## {plain(one.title or one.name)}", anchors=False)
        words.markdown(plain(one.description))
        with action.container(horizontal_alignment="right"):
            barred = session.cannot_submit()
            going = st.session_state.get("wanted") == one.name or any(
                e.state not in ENDED for e in experiments
            )
            st.button(
                "Submit again" if experiments else "Reproduce the report",
                f"submit:{one.name}",
                barred
                or ("What is measured already is not measured again." if experiments else None),
                on_click=lambda: st.session_state.update(wanted=one.name, refused=None),
                type="secondary" if experiments else "primary",
                icon=":material/play_arrow:",
                disabled=going or barred is not None,
                width="stretch",
            )
            if experiments:
                files(one, experiments)
        submitting(one)
        if experiments:
            busy = any(experiment.state == "running" for experiment in experiments)
            for experiment in experiments:
                row(experiment, say_wait=not busy)
            together(one, experiments)
        else:
            caption(" · ".join(submission.name for submission in one.experiments))


def submitting(one: Study) -> None:
    """Register what the study needs, wait for it, and submit; a refusal is said."""
    if st.session_state.get("wanted") == one.name:
        try:
            with st.spinner("Looking up suites and texts …" if one.suites else "Submitting …"):
                pending = refresh.track(
                    f"preparing {one.name}", partial(pages.client().prepare, one)
                )
                if not pending:
                    pages.client().submit_study(one)
                    pages.invalidate(f"study {one.name}")
            if pending:
                st.info(
                    plain(f"Before it can be submitted: {pending}."), icon=":material/hourglass:"
                )
                return
        except RequestRejectedError as error:
            st.session_state["refused"] = (one.name, str(error))
        except ApiUnavailableError:
            st.session_state["silence"] = "does not answer"
            return
        st.session_state["wanted"] = None
        st.rerun(scope="fragment")
    name, problem = st.session_state.get("refused") or ("", "")
    if name == one.name:
        st.error(plain(problem), icon=":material/block:")


def row(experiment: Experiment, say_wait: bool) -> None:
    """say_wait: also say what it waits for, which goes without saying while another one of the study is measured."""
    progress = experiment.progress
    name, bar, state = st.columns([4, 4, 2], vertical_alignment="center", gap="medium")
    name.page_link(
        "app_pages/experiment.py",
        label=plain(experiment.name),
        query_params={"id": str(experiment.id)},
    )
    counts = f"{progress.done:,} of {counted(progress.total, 'point')}"
    counts += f" · :red[{progress.failed:,} failed]" if progress.failed else ""
    counts += f" · {progress.reused:,} reused" if progress.reused else ""
    counts += (
        f" · {roughly(experiment.eta_seconds)} left" if experiment.eta_seconds is not None else ""
    )
    bar.progress(
        (progress.done + progress.failed) / max(progress.total, 1), text=f":small[{counts}]"
    )
    state.markdown(badge(experiment.state))
    if say_wait and experiment.waits_for and experiment.state == "queued":
        st.markdown(f":small[:orange[{plain(experiment.waits_for)}]]")


def together(one: Study, experiments: list[Experiment]) -> None:
    """Claims side by side, the inflection points, growth, the published numbers."""
    if not any(experiment.progress.done for experiment in experiments):
        return
    found = judged(one, experiments)
    if not found:
        caption("What they say together is being worked out.")
        return
    with st.expander(
        "What the experiments say together", expanded=all(e.state in ENDED for e in experiments)
    ):
        for name, figure in study.figures(found).items():
            live_chart(figure, key=f"study:{one.name}:{name}")
            caption(figure.caption)
        for claim in by_claim(found):
            results.one_claim(claim)


def judged(one: Study, experiments: list[Experiment]) -> list[Verdict]:
    """The verdicts as last worked out, asked for again beside the page when there are newer numbers."""
    held = st.session_state.setdefault("judged", {}).setdefault(
        one.name, {"found": [], "of": None, "asking": None, "at": 0.0}
    )
    asking: Future[list[Verdict]] | None = held["asking"]
    if asking is not None and asking.done():
        held["asking"] = None
        if asking.exception() is None:
            held["found"] = asking.result()
    now = [(experiment.id, experiment.progress.done) for experiment in experiments]
    due = all(e.state in ENDED for e in experiments) or time.monotonic() - held["at"] > PATIENCE
    if held["asking"] is None and held["of"] != now and due:
        ids = [experiment.id for experiment in experiments]
        held.update(
            of=now,
            at=time.monotonic(),
            asking=pages.run_in_background(partial(pages.client().study_verdicts, ids)),
        )
    if held["asking"] is not None:
        refresh.track(f"judged {one.name}", held["asking"].done)
    return list(held["found"])


def files(one: Study, experiments: list[Experiment]) -> None:
    ids = [experiment.id for experiment in experiments]
    patient = Client(pages.client().url, session.token(), timeout=120.0)
    offer(
        "Report",
        lambda: report.html(report.collect(patient, ids)),
        f"{one.name}.html",
        "text/html",
        f"report:{one.name}",
        framed=True,
        help="Everything in one file: figures, verdicts, settings, where the numbers come from. It takes some seconds.",
    )


def body() -> None:
    for one in pages.cached("studies", lambda: pages.client().studies()) or []:
        card(one)


st.title("Studies", anchor=False)
caption(
    "All experiments of a report at once, and what they say together. Points are shared with every other experiment of the lab."
)
pages.run(body, interval=2)
