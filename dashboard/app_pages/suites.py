"""Suites with their checkpoints, evaluation sets, and how to register more of either."""

from typing import Any

import streamlit as st

from dashboard.auth import session
from dashboard.components import references
from dashboard.components.theme import caption, counted, empty_state, plain, tokens
from dashboard.forms import drafts, widgets
from dashboard.forms.parsing import parse_tokens
from dashboard.live import pages
from ucurve.client import ApiUnavailableError, RequestRejectedError
from ucurve.formatting import file_size
from ucurve.registry.suites import FOLDER_FORMAT, Checkpoint, Dataset, Suite

FORMS = {"A folder": "path", "Hugging Face hub": "hub"}


def suite_card(suite: Suite) -> None:
    known = [one.tokens for one in suite.checkpoints if one.tokens is not None]
    span = f" · {tokens(min(known))} to {tokens(max(known))} tokens" if known else ""
    replicates = {one.replicate for one in suite.checkpoints}
    seeds = f" · {len(replicates)} pre-training seeds" if len(replicates) > 1 else ""
    waiting = sum(one.unresolved is not None for one in suite.checkpoints)
    with st.container(border=True):
        st.markdown(f"**{plain(suite.name)}**  \n{plain(suite.description)}")
        text = f"{counted(len(suite.checkpoints), 'checkpoint')}{span}{seeds}"
        st.markdown(
            f":small[:gray[{plain(text)} · evaluated on {plain(suite.evaluation or 'what the experiment names')}]]"
        )
        for warning in suite.warnings:
            st.warning(plain(warning), icon=":material/warning:")
        if waiting:
            st.info(
                f"{counted(waiting, 'checkpoint')} cannot be used yet; the reason is in the list.",
                icon=":material/hourglass:",
            )
        with st.expander("Checkpoints"):
            st.dataframe([checkpoint_row(one) for one in suite.checkpoints], hide_index=True)


def checkpoint_row(one: Checkpoint) -> dict[str, Any]:
    row = {
        "revision": one.revision,
        "tokens": tokens(one.tokens),
        "step": one.step,
        "seed": one.replicate,
        "learning-rate phase": one.phase or "unknown",
        "parameters": one.num_parameters,
        "size": file_size(one.size_bytes),
        "SHA-256 of the weights": one.weights_sha256 or "",
    }
    return {**row, "not usable yet": one.unresolved} if one.unresolved else row


def dataset_card(dataset: Dataset) -> None:
    with st.container(border=True):
        what = "built-in synthetic language" if dataset.kind == "language" else "text"
        st.markdown(f"**{plain(dataset.name)}**  \n{plain(dataset.description)}")
        st.markdown(
            f":small[:gray[{what} {file_size(dataset.size_bytes)} · SHA-256 {(dataset.sha256 or 'not known yet')[:16]}…]]"
        )
        if dataset.unresolved:
            st.info(plain(dataset.unresolved), icon=":material/hourglass:")


def register_suite() -> None:
    """The form keeps what was typed until the registration has succeeded."""
    with st.expander("Register a suite", icon=":material/add:"):
        how = (
            widgets.persistent_widget(
                st.segmented_control,
                "suite:how",
                "From",
                default="A folder",
                options=list(FORMS),
                required=True,
            )
            or "A folder"
        )
        name = widgets.persistent_widget(
            st.text_input, "suite:name", "Name", placeholder="my-suite"
        )
        if FORMS[how] == "path":
            help_text = "One sub-folder per revision, each as saved by save_pretrained; the API and all workers must be able to read it."
            where = widgets.persistent_widget(
                st.text_input, "suite:path", "Folder", placeholder="/data/my-suite", help=help_text
            )
            with st.popover("How the folder looks", type="tertiary", icon=":material/help:"):
                st.code(FOLDER_FORMAT, language=None)
        else:
            help_text = "Its branches and tags are listed and tokens read from their names. No code of the repository runs."
            where = widgets.persistent_widget(
                st.text_input,
                "suite:hub",
                "Repository",
                placeholder="EleutherAI/pythia-70m",
                help=help_text,
            )
        evaluation = widgets.persistent_widget(
            st.text_input,
            "suite:evaluation",
            "Evaluation set, optional",
            placeholder="used when an experiment names none",
        )
        per_step = widgets.persistent_widget(
            st.text_input,
            "suite:tokens_per_step",
            "Tokens per step, optional",
            placeholder="where names tell steps only",
        )
        tokens_per_step, problem = widgets.show_parsed(parse_tokens, per_step)
        description = widgets.persistent_widget(
            st.text_input, "suite:description", "Description, optional"
        )
        barred = session.cannot_submit()
        off = barred is not None or problem is not None
        if st.button("Register suite", type="primary", disabled=off, help=barred):
            with st.spinner("Reading the checkpoints and hashing their weights"):
                asked = {
                    FORMS[how]: where,
                    "description": description or "",
                    "evaluation": evaluation or None,
                    "tokens_per_step": tokens_per_step,
                }
                register("suite", lambda: pages.client().add_suite(name or "", **asked))


def register_dataset() -> None:
    with st.expander("Register a text", icon=":material/add:"):
        name = widgets.persistent_widget(st.text_input, "text:name", "Name", placeholder="my-text")
        source = widgets.persistent_widget(
            st.segmented_control,
            "text:how",
            "From",
            default="A text file",
            options=["A text file", "WikiText-2 from the hub"],
            required=True,
        )
        preset = source == "WikiText-2 from the hub"
        path = None
        if not preset:
            help_text = "UTF-8; the API and all workers must be able to read it."
            path = widgets.persistent_widget(
                st.text_input, "text:path", "File", placeholder="/data/novel.txt", help=help_text
            )
        description = widgets.persistent_widget(
            st.text_input, "text:description", "Description, optional"
        )
        barred = session.cannot_submit()
        if st.button("Register text", type="primary", disabled=barred is not None, help=barred):
            asked: dict[str, Any] = {"preset": "wikitext-2"} if preset else {"text": path}
            register(
                "text",
                lambda: pages.client().add_dataset(
                    name or "", description=description or "", **asked
                ),
            )


def register(form: str, send: Any) -> None:
    try:
        made = send()
    except (RequestRejectedError, ApiUnavailableError, ValueError) as error:
        st.error(plain(str(error)))
        return
    for key in [
        key
        for key in st.session_state.get("drafts", {})
        if key.startswith(f"{form}:") and not key.endswith(":how")
    ]:
        del st.session_state["drafts"][key], st.session_state[key]
    st.toast(f"{made.name} is registered.", icon=":material/check:")
    pages.invalidate("suites", "datasets")
    st.rerun(scope="fragment")


def body() -> None:
    drafts.restored()
    suites = pages.shared_query("suites", lambda client: client.suites(), interval=3)
    datasets = pages.shared_query("datasets", lambda client: client.datasets(), interval=3)
    if suites is None or datasets is None:
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown(
            "## Suites", anchors=False, help="One model at many points of its pre-training."
        )
        register_suite()
        if not suites:
            empty_state(
                "No suite yet",
                "Register a folder of checkpoints, or let a pre-training experiment make one.",
            )
        for suite in suites:
            suite_card(suite)
    with right:
        st.markdown("## Evaluation sets and texts", anchors=False)
        register_dataset()
        if not datasets:
            caption("None yet.")
        for dataset in datasets:
            dataset_card(dataset)
        with st.container():
            references.section()
    drafts.keep()


st.title("Suites and texts", anchor=False)
pages.run(body, interval=3, before=widgets.remember)
