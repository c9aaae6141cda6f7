"""Models and data: suites with their checkpoints, datasets, and forms to register more."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard.auth import session
from dashboard.components import references, suite_preview
from dashboard.components.dataset_form import READABLE, dataset_form
from dashboard.components.refusals import SUITE, refusal
from dashboard.components.theme import (
    caption,
    counted,
    empty_state,
    message,
    plain,
    small,
    tokens,
)
from dashboard.forms import drafts, widgets
from dashboard.forms.parsing import parse_tokens_per_step
from dashboard.live import pages
from ucurve.client import ApiUnavailableError, RequestRejectedError
from ucurve.formatting import file_size, token_span
from ucurve.registry.suites import FOLDER_FORMAT, Checkpoint, Dataset, Suite, dataset_facts

FOLDER, HUB, PRESET = "Folder", "Hugging Face Hub", "Preset"
KINDS = {
    "language": "built-in synthetic language",
    "text": "text",
    "examples": "fine-tuning examples",
}


def suite_card(suite: Suite) -> None:
    positions = [
        checkpoint.tokens for checkpoint in suite.checkpoints if checkpoint.tokens is not None
    ]
    num_seeds = len({checkpoint.replicate for checkpoint in suite.checkpoints})
    unavailable = num_unexplained(suite)
    details = [counted(len(suite.checkpoints), "checkpoint")]
    if positions:
        details.append(f"{token_span(positions)} tokens")
    if num_seeds > 1:
        names = [suite_preview.seed(c) for c in suite.checkpoints if c.replicate_name]
        listed = f": {plain(', '.join(dict.fromkeys(names)))}" if names else ""
        details.append(f"{num_seeds} pre-training seeds{listed}")
    details.append(f"default evaluation set: {suite.evaluation or 'none'}")
    with st.container(border=True):
        st.markdown(f"**{plain(suite.name)}**  \n{plain(suite.description)}")
        st.markdown(small(" · ".join(details)))
        for warning in suite.warnings:
            st.warning(message(warning), icon=":material/warning:")
        if unavailable:
            st.info(
                f"{counted(unavailable, 'checkpoint')} not available. The list says why.",
                icon=":material/hourglass:",
            )
        with st.expander("Checkpoints"):
            st.dataframe(
                [checkpoint_row(checkpoint) for checkpoint in suite.checkpoints], hide_index=True
            )


def num_unexplained(suite: Suite) -> int:
    """Count unavailable checkpoints whose reason no warning of the suite says."""
    reasons = [checkpoint.unresolved for checkpoint in suite.checkpoints if checkpoint.unresolved]
    return sum(not any(reason in warning for warning in suite.warnings) for reason in reasons)


def checkpoint_row(checkpoint: Checkpoint) -> dict[str, Any]:
    size = checkpoint.size_bytes
    row = {
        "revision": checkpoint.revision,
        "tokens": tokens(checkpoint.tokens),
        "step": checkpoint.step,
        "pre-training seed": suite_preview.seed(checkpoint),
        "training phase": checkpoint.training_phase or "pre-training",
        "learning-rate phase": checkpoint.phase or "unknown",
        "parameters": checkpoint.num_parameters,
        "size": "" if size is None else file_size(size),
        "weights SHA-256": checkpoint.weights_sha256 or "",
        "position from": checkpoint.position_source or "",
    }
    if checkpoint.unresolved:
        row["not available"] = checkpoint.unresolved
    return row


def dataset_card(dataset: Dataset) -> None:
    with st.container(border=True):
        kind = KINDS[dataset.kind]
        size = "" if dataset.size_bytes is None else f" · {file_size(dataset.size_bytes)}"
        digest = f"{dataset.sha256[:16]}…" if dataset.sha256 else "pending"
        st.markdown(f"**{plain(dataset.name)}**  \n{plain(dataset.description)}")
        st.markdown(small(f"{kind}{size} · SHA-256 {digest}"))
        if facts := dataset_facts(dataset):
            with st.expander("Contents as read"):
                st.text("\n".join(facts))
        if dataset.unresolved:
            st.info(message(dataset.unresolved), icon=":material/hourglass:")


def suite_form() -> None:
    """Draw the form; it keeps its content until the suite is registered."""
    drafts.clear_forgotten("suite")
    with st.expander("Register a suite", icon=":material/add:"):
        source = (
            widgets.persistent_widget(
                st.segmented_control,
                "suite:how",
                "Source",
                default=FOLDER,
                options=[FOLDER, HUB, PRESET],
                required=True,
            )
            or FOLDER
        )
        name = widgets.persistent_widget(
            st.text_input, "suite:name", "Name", placeholder="my-suite"
        )
        location = {FOLDER: folder_field, HUB: hub_field, PRESET: preset_field}[source]()
        details, problem = suite_details(location)
        barred = session.cannot_submit()
        off = barred is not None or problem is not None
        if st.button("Preview", disabled=off, help=barred):
            suite_preview.ask(name or "", details, next(iter(location)))
        if suite_preview.draw_current(name or "", details) and st.button(
            "Register suite", type="primary", disabled=off, help=barred
        ):
            with st.spinner("Reading checkpoints and hashing weights…"):
                register(
                    lambda: pages.client().add_suite(name or "", **details),
                    next(iter(location)),
                )


def suite_details(location: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Draw the other fields of a suite; return all fields, and a problem of one of them."""
    evaluation = widgets.persistent_widget(
        st.text_input,
        "suite:evaluation",
        "Default evaluation set (optional)",
        placeholder="used unless an experiment names another",
    )
    per_step = widgets.persistent_widget(
        st.text_input,
        "suite:tokens_per_step",
        "Tokens per step (optional)",
        placeholder="if revision names contain only steps",
        help="A number such as 2M; where the batch changed, ranges FIRST_STEP:TOKENS such as "
        "0:2097152,1000:4194304.",
    )
    tokens_per_step, problem = widgets.show_parsed(parse_tokens_per_step, per_step)
    description = widgets.persistent_widget(
        st.text_input, "suite:description", "Description (optional)"
    )
    details = {
        **location,
        "description": description or "",
        "evaluation": evaluation or None,
        "tokens_per_step": tokens_per_step,
        "positions": suite_preview.corrections(),
    }
    return details, problem


def folder_field() -> dict[str, Any]:
    path: str | None = widgets.persistent_widget(
        st.text_input,
        "suite:path",
        "Folder",
        placeholder="/data/my-suite",
        help=f"One sub-folder per revision, as written by save_pretrained. {READABLE}",
    )
    with st.popover("Folder format", type="tertiary", icon=":material/help:"):
        st.code(FOLDER_FORMAT, language=None)
    return {"path": path}


def preset_field() -> dict[str, Any]:
    name: str | None = widgets.persistent_widget(
        st.text_input,
        "suite:preset",
        "Preset",
        placeholder="polypythias-14m",
        help="A suite of the hub that the package knows, with its tokens per step.",
    )
    return {"preset": name}


def hub_field() -> dict[str, Any]:
    text: str | None = widgets.persistent_widget(
        st.text_input,
        "suite:hub",
        "Repository",
        placeholder="EleutherAI/pythia-70m",
        help="Lists branches and tags and infers tokens from their names. Several repositories, "
        "separated by commas, are pre-training seeds of one suite. Code in a repository is never "
        "run.",
    )
    repositories = [name.strip() for name in (text or "").split(",") if name.strip()]
    return {"repositories": repositories} if repositories[1:] else {"hub": text}


def register(send: Callable[[], Suite], source: str) -> None:
    """Register a suite and clear its form; a refusal is shown below the button.

    source: the field of the API that the form shows for it.
    """
    try:
        suite = send()
    except (RequestRejectedError, ApiUnavailableError, ValueError) as error:
        st.error(message(refusal(error, SUITE, source)))
        return
    drafts.forget("suite")
    suite_preview.forget()
    st.toast(f"Registered {suite.name}.", icon=":material/check:")
    pages.invalidate("suites", "datasets")
    st.rerun(scope="fragment")


def suites_section(suites: list[Suite]) -> None:
    st.markdown(
        "## Suites", anchors=False, help="A suite is one model at many pre-training checkpoints."
    )
    suite_form()
    if not suites:
        empty_state(
            "No suites yet",
            "Register a folder of checkpoints, or run a pre-training experiment to create a suite.",
        )
    for suite in suites:
        suite_card(suite)


def datasets_section(datasets: list[Dataset]) -> None:
    st.markdown("## Datasets", anchors=False, help="Texts for evaluation and fine-tuning.")
    dataset_form()
    if not datasets:
        caption("No datasets yet.")
    for dataset in datasets:
        dataset_card(dataset)


def body() -> None:
    drafts.restored()
    suites = pages.shared_query("suites", lambda client: client.suites(), interval=3)
    datasets = pages.shared_query("datasets", lambda client: client.datasets(), interval=3)
    if suites is None or datasets is None:
        return
    drafts.cover()
    left, right = st.columns([3, 2], gap="large")
    with left:
        suites_section(suites)
    with right:
        datasets_section(datasets)
        with st.container():
            references.section()
    drafts.keep()


st.title("Models and data", anchor=False)
pages.run(body, interval=3, before=widgets.remember)
