"""Reference curves: drawn over an experiment's figures, and listed with a form to add one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from dashboard.auth import session
from dashboard.components.refusals import REFERENCE, refusal
from dashboard.components.theme import ago, caption, counted, message, plain, small
from dashboard.forms import widgets
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.client import ClientError
from ucurve.figures.published import available_curves, metrics_of, with_curves
from ucurve.formatting import shortened
from ucurve.schemas.references import Importer, ReferenceCurve, SentFile

TOOL = "Evaluation tool (JSON)"
IMPORTERS: dict[str, Importer] = {TOOL: "lm-eval", "Table (CSV)": "csv"}
FILE_TYPES: dict[Importer, list[str]] = {"lm-eval": ["json", "jsonl"], "csv": ["csv", "tsv", "txt"]}
FILE_HELP: dict[Importer, str] = {
    "lm-eval": "results_*.json of lm-evaluation-harness or lighteval, metrics.json of OLMES; one "
    "file per checkpoint.",
    "csv": "Columns: checkpoint,tokens,metric,value,standard_error; also with semicolons and "
    "decimal commas.",
}
MAX_PILLS = 8  # above it, a list to search in
MAX_CARDS = 20


@st.cache_data(ttl=10, max_entries=100, show_spinner=False)
def _curves(suite: str | None) -> list[ReferenceCurve]:
    """Return the curves of a suite; the answer is the same for every user."""
    return pages.client().references(suite)


@st.cache_data(ttl=60, max_entries=100, show_spinner=False)
def _default_evaluation(suite: str) -> str | None:
    suites = pages.client().suites()
    return next((other.evaluation for other in suites if other.name == suite), None)


def with_references(snapshot: ExperimentSnapshot) -> ExperimentSnapshot:
    """Return the experiment with the selected reference curves on its figures.

    Curves measured on another evaluation set are drawn only when selected.
    """
    suite = snapshot.experiment.spec.get("suite")
    if not isinstance(suite, str):
        return snapshot
    curves = pages.cached(f"references {suite}", lambda: _curves(suite)) or []
    if not curves:
        return snapshot
    evaluation = snapshot.experiment.spec.get("evaluation") or pages.cached(
        f"own {suite}", lambda: _default_evaluation(suite)
    )
    options = available_curves(curves, suite, metrics_of(snapshot.figures), evaluation)
    if not options:
        return snapshot
    own = [label for label, (_, _, same_evaluation) in options.items() if same_evaluation]
    selected = [
        options[label][:2] for label in choice(list(options), own, f"references:{snapshot.id}")
    ]
    return replace(snapshot, figures=with_curves(snapshot.figures, curves, selected))


def choice(labels: list[str], default: list[str], key: str, **options: Any) -> list[str]:
    """Draw the choice of curves, with a search where they are many, and return the chosen ones."""
    if len(labels) <= MAX_PILLS:
        options |= {"selection_mode": "multi"}
        return st.pills("Reference curves", labels, default=default, key=key, **options)
    options |= {"placeholder": f"Search {len(labels):,} curves"}
    return st.multiselect("Reference curves", labels, default=default, key=key, **options)


def section() -> None:
    """Draw the curves, a search among them and the form to add one."""
    st.markdown(
        "## Reference curves",
        anchors=False,
        help="Results from papers or other tools, drawn on figures of the same suite.",
    )
    add_form()
    text = st.text_input(
        "Search reference curves",
        key="reference:search",
        placeholder="name, suite, citation, file or metric",
        live="300ms",
        icon=":material/search:",
    )
    curves = pages.cached(
        f"references {text}", lambda: pages.client().references(text=text.strip())
    )
    if curves is None:
        return
    if not curves:
        caption("No reference curves match." if text else "No reference curves yet.")
    for curve in curves[:MAX_CARDS]:
        card(curve)
    if (more := len(curves) - MAX_CARDS) > 0:
        caption(f"{more:,} more. Search to narrow the list.")


def card(curve: ReferenceCurve) -> None:
    origin = curve.origin
    with st.container(border=True):
        text, corner = st.columns([5, 1], vertical_alignment="top")
        citation = f"  \n{plain(origin.citation)}" if origin.citation else ""
        text.markdown(f"**{plain(curve.name)}**{citation}")
        with corner.container(horizontal_alignment="right"):
            st.button(
                "Remove", f"reference:{curve.id}", on_click=remove, args=(curve,), type="tertiary"
            )
        checkpoints = counted(len({row.revision for row in curve.rows}), "checkpoint")
        parts = [str(curve.suite), checkpoints, shortened(curve.metrics)]
        if origin.num_left_out:
            parts.append(f"{counted(origin.num_left_out, 'non-finite value')} excluded")
        st.markdown(small(" · ".join(parts)))
        for note in origin.notes:
            st.markdown(small(note))
        values = counted(len(curve.rows), "value")
        with st.expander(f"{values} from {counted(len(origin.files), 'file')}"):
            st.dataframe([row.model_dump() for row in curve.rows], hide_index=True)
            for file in origin.files:
                st.markdown(small(f"{file.name} · SHA-256 {file.sha256[:16]}…"))
            source = origin.model or origin.importer
            st.markdown(small(f"{source} · added by {curve.owner} {ago(curve.created_at)}"))


def remove(curve: ReferenceCurve) -> None:
    try:
        pages.client().remove_reference(curve.id)
        _curves.clear()
    except ClientError as error:
        st.toast(message(str(error)), icon=":material/block:")


def add_form() -> None:
    """Draw the form; it keeps its content until the curve is added."""
    with st.expander("Add a reference curve", icon=":material/add:"):
        source = widgets.persistent_widget(
            st.segmented_control,
            "reference:how",
            "Format",
            default=TOOL,
            options=list(IMPORTERS),
            required=True,
        )
        importer = IMPORTERS[source or TOOL]
        name = widgets.persistent_widget(
            st.text_input, "reference:name", "Name", placeholder="legend label in figures"
        )
        suite = widgets.persistent_widget(
            st.text_input,
            "reference:suite",
            "Suite",
            placeholder="optional where the files name it",
        )
        citation = widgets.persistent_widget(
            st.text_input, "reference:citation", "Citation (optional)"
        )
        same_model = widgets.persistent_widget(
            st.text_input,
            "reference:same-model",
            "Model in the files (optional)",
            placeholder="only where the suite has it under another name",
        )
        files = st.file_uploader(
            "Files",
            type=FILE_TYPES[importer],
            accept_multiple_files=True,
            help=FILE_HELP[importer],
            key=f"files:{importer}",
        )
        barred = session.cannot_submit()
        if st.button("Add curve", type="primary", disabled=barred is not None, help=barred):
            about = {"citation": citation or "", "same_model": (same_model or "").strip()}
            add(importer, name or "", suite or "", files or [], **about)


def add(importer: Importer, name: str, suite: str, files: list[UploadedFile], **about: str) -> None:
    try:
        sent = [SentFile(name=file.name, content=file.getvalue().decode()) for file in files]
        curve = pages.client().add_reference(
            name.strip(), importer, sent, suite.strip() or None, **about
        )
    except UnicodeDecodeError:
        st.error("One of the files is not UTF-8 text: save tables as “CSV UTF-8”.")
    except (ClientError, ValueError) as error:
        st.error(message(refusal(error, REFERENCE)))
    else:
        _curves.clear()
        st.toast(f"Added {curve.name} to the figures of {curve.suite}.", icon=":material/check:")
