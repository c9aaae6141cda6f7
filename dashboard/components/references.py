"""Reference curves on the pages: chosen over an experiment's figures, listed and added beside the suites."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from dashboard.auth import session
from dashboard.components.theme import ago, caption, counted, plain
from dashboard.forms import widgets
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.client import ClientError
from ucurve.figures.published import available_curves, metrics_of, with_curves
from ucurve.schemas.references import (
    Importer,
    ReferenceCurve,
    SentFile,
)

IMPORTERS: dict[str, Importer] = {"lm-evaluation-harness": "lm-eval", "CSV": "csv"}


@st.cache_data(ttl=10, show_spinner=False)
def _curves(suite: str | None) -> list[ReferenceCurve]:
    """The same for everybody who may look, so one question serves all."""
    return pages.client().references(suite)


@st.cache_data(ttl=60, show_spinner=False)
def _own_evaluation(suite: str) -> str | None:
    return next((one.evaluation for one in pages.client().suites() if one.name == suite), None)


def over(now: ExperimentSnapshot) -> ExperimentSnapshot:
    """The experiment with the chosen curves on its figures. Those measured on another text are drawn only when chosen."""
    suite = now.experiment.spec.get("suite")
    if not isinstance(suite, str):
        return now
    curves = pages.cached(f"references {suite}", lambda: _curves(suite)) or []
    if not curves:
        return now
    evaluation = now.experiment.spec.get("evaluation") or pages.cached(
        f"own {suite}", lambda: _own_evaluation(suite)
    )
    found = available_curves(curves, suite, metrics_of(now.figures), evaluation)
    if not found:
        return now
    chosen = st.pills(
        "Beside it, not measured here",
        list(found),
        selection_mode="multi",
        default=[label for label, (_, _, own) in found.items() if own],
        key=f"references:{now.id}",
    )
    return replace(
        now, figures=with_curves(now.figures, curves, [found[label][:2] for label in chosen])
    )


def section() -> None:
    """All curves, and a form to add one."""
    curves = pages.cached("references", lambda: pages.client().references())
    if curves is None:
        return
    st.markdown(
        "## Reference curves",
        anchors=False,
        help="Numbers of other tools and papers, drawn over figures of the same suite.",
    )
    add()
    if not curves:
        caption("None yet.")
    for curve in curves:
        card(curve)


def card(curve: ReferenceCurve) -> None:
    origin = curve.origin
    with st.container(border=True):
        words, corner = st.columns([5, 1], vertical_alignment="top")
        words.markdown(
            f"**{plain(curve.name)}**"
            + (f"  \n{plain(origin.citation)}" if origin.citation else "")
        )
        with corner.container(horizontal_alignment="right"):
            st.button(
                "Remove", f"reference:{curve.id}", on_click=remove, args=(curve,), type="tertiary"
            )
        left_out = f" · {origin.num_left_out} not finite, left out" if origin.num_left_out else ""
        checkpoints = counted(len({row.revision for row in curve.rows}), "checkpoint")
        text = f"{curve.suite} · {checkpoints} · {', '.join(curve.metrics)}{left_out}"
        st.markdown(f":small[:gray[{plain(text)}]]")
        with st.expander(
            f"{counted(len(curve.rows), 'number')} from {counted(len(origin.files), 'file')}"
        ):
            st.dataframe([row.model_dump() for row in curve.rows], hide_index=True)
            for file in origin.files:
                st.markdown(f":small[:gray[{plain(file.name)} · SHA-256 {file.sha256[:16]}…]]")
            st.markdown(
                f":small[:gray[{plain(origin.model or origin.importer)} · added by {plain(curve.owner)} {ago(curve.created_at)}]]"
            )


def remove(curve: ReferenceCurve) -> None:
    try:
        pages.client().remove_reference(curve.id)
        _curves.clear()
    except ClientError as error:
        st.toast(plain(str(error)), icon=":material/block:")


def add() -> None:
    """The form keeps what was typed until the curve is there."""
    with st.expander("Add a reference curve", icon=":material/add:"):
        how = widgets.persistent_widget(
            st.segmented_control,
            "reference:how",
            "From",
            default="lm-evaluation-harness",
            options=list(IMPORTERS),
            required=True,
        )
        importer = IMPORTERS[how or "lm-evaluation-harness"]
        name = widgets.persistent_widget(
            st.text_input, "reference:name", "Name", placeholder="as it is shown in figures"
        )
        suite = widgets.persistent_widget(
            st.text_input,
            "reference:suite",
            "Suite",
            placeholder="lm-eval's files may say it themselves",
        )
        citation = widgets.persistent_widget(
            st.text_input, "reference:citation", "Where it was published, optional"
        )
        help_text = (
            "results_*.json, one file per checkpoint"
            if importer == "lm-eval"
            else "checkpoint,tokens,metric,value,standard_error"
        )
        files = st.file_uploader(
            "Files",
            type=["json"] if importer == "lm-eval" else ["csv"],
            accept_multiple_files=True,
            help=help_text,
            key=f"files:{importer}",
        )
        barred = session.cannot_submit()
        if st.button("Add curve", type="primary", disabled=barred is not None, help=barred):
            try:
                sent = [
                    SentFile(name=file.name, content=file.getvalue().decode())
                    for file in files or []
                ]
                made = pages.client().add_reference(
                    (name or "").strip(),
                    importer,
                    sent,
                    (suite or "").strip() or None,
                    citation or "",
                )
            except UnicodeDecodeError:
                st.error("One of the files is no UTF-8 text.")
            except (ClientError, ValueError) as error:
                st.error(plain(str(error)))
            else:
                _curves.clear()
                st.toast(
                    f"{made.name} is drawn over figures of {made.suite}.", icon=":material/check:"
                )
