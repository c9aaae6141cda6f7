"""The form that registers a dataset: a text, examples for fine-tuning, or one of the hub.

    dataset_form()    # a refusal stands below the field that it is about

The fields are those of the API (`DatasetSubmission`), so that what it says of one finds its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from dashboard.auth import session
from dashboard.components.refusals import ONE_OF
from dashboard.components.theme import message
from dashboard.forms import drafts, widgets
from dashboard.live import pages
from ucurve.client import ApiUnavailableError, RequestRejectedError

TEXT, EXAMPLES = "Text", "Fine-tuning examples"
WIKITEXT, SST2 = "WikiText-2 (Hugging Face Hub)", "SST-2 (Hugging Face Hub)"
PRESETS = {WIKITEXT: "wikitext-2", SST2: "sst2"}
REFUSED = "text:refused"  # in the session: what was asked for, and the problem of each field
READABLE = (
    "Must be readable by the API and all workers, below a folder of the lab: "
    "`ucurve up --models DIR` adds one."
)
COLUMNS = (
    ".tsv or .csv with a header, .jsonl, .json or Parquet. Columns sentence (or text) and label, "
    "prompt and completion, or instruction and output."
)
TEXTS = (
    "UTF-8 text, or .jsonl, .json, .csv, .tsv or Parquet with a column of documents, also "
    "compressed; documents are joined by a blank line."
)
FORMATS = """\
**Text**: UTF-8, or documents in a column of `.jsonl`, `.json`, `.csv`, `.tsv` or Parquet, which are
joined by blank lines.
```
{"text": "A document."}
{"text": "Another one."}
```
**Fine-tuning examples**: `.tsv` or `.csv` with a header, `.jsonl`, `.json` or Parquet. Columns:
sentence (or text) and label, prompt and completion, or instruction and output.
```
{"prompt": "2 + 2 =", "completion": " 4"}
```
All of them also as `.gz`, `.zst`, `.bz2` or `.xz`. Every example is checked when the dataset is
registered; a plan says how many do not fit a model's context.
"""


@dataclass
class Fields:
    """The fields drawn so far with their values, and what the lab last said about each."""

    values: dict[str, str | None] = field(default_factory=dict)

    def draw(self, name: str, label: str, **options: Any) -> None:
        """Draw a field; a problem stands below it until its value changes."""
        text = widgets.persistent_widget(st.text_input, f"text:{name}", label, **options)
        self.values[name] = value = (text or "").strip() or None
        request, problems = st.session_state.get(REFUSED, ({}, {}))
        widgets.show_message(problems.get(name) if request.get(name) == value else None)


def dataset_form() -> None:
    """Draw the form; it keeps its content until the dataset is registered."""
    drafts.clear_forgotten("text")
    with st.expander("Register a dataset", icon=":material/add:"):
        fields = Fields()
        fields.draw("name", "Name", placeholder="my-dataset")
        source = widgets.persistent_widget(
            st.segmented_control,
            "text:how",
            "Source",
            default=TEXT,
            options=[TEXT, EXAMPLES, *PRESETS],
            required=True,
        )
        if source not in PRESETS:
            _files(source, fields)
        fields.draw("description", "Description (optional)")
        _register(fields.values, PRESETS.get(source))


def _files(source: str, fields: Fields) -> None:
    """Draw the fields of files, and which formats they may have."""
    if source == EXAMPLES:
        train, validation = "Training examples", "Validation examples"
        fields.draw("train", train, placeholder="/data/train.jsonl", help=f"{COLUMNS} {READABLE}")
        fields.draw("validation", validation, placeholder="/data/dev.jsonl", help=COLUMNS)
    else:
        fields.draw("text", "File", placeholder="/data/novel.txt", help=f"{TEXTS} {READABLE}")
        fields.draw(
            "column",
            "Column (optional)",
            placeholder="text",
            help="Column of the documents in a data file, where it is not called text.",
        )
    with st.popover("File formats", type="tertiary", icon=":material/help:"):
        st.markdown(FORMATS)


def _register(values: dict[str, str | None], preset: str | None) -> None:
    """Draw the button; on a refusal, keep the problem of each field for the next drawing."""
    barred = session.cannot_submit()
    clicked = st.button(
        "Register dataset", type="primary", disabled=barred is not None, help=barred
    )
    current = {**values, **({"preset": preset} if preset else {})}
    request, problems = st.session_state.get(REFUSED, ({}, {}))
    elsewhere = "\n".join(text for name, text in problems.items() if name not in values)
    place = st.empty()
    if elsewhere and request == current:
        place.error(message(elsewhere))
    if clicked:
        with place, st.spinner("Reading the file…"):
            _send(current)
        st.rerun(scope="fragment")


def _send(request: dict[str, str | None]) -> None:
    source = next(name for name in ("preset", "train", "text") if name in request)
    required = {name: request[name] or "" for name in ("name", "description")}
    details: dict[str, Any] = {**request, **required}
    try:
        registered = pages.client().add_dataset(**details)
    except RequestRejectedError as error:
        st.session_state[REFUSED] = (request, problems_of(error, source))
    except (ApiUnavailableError, ValueError) as error:
        st.session_state[REFUSED] = (request, {"": str(error)})
    else:
        st.session_state.pop(REFUSED, None)
        drafts.forget("text")
        st.toast(f"Registered {registered.name}.", icon=":material/check:")
        pages.invalidate("datasets")


def problems_of(error: RequestRejectedError, source: str) -> dict[str, str]:
    """Return what the lab says about each field; about none of them under an empty name.

    source: the field of the chosen source, which the form shows.
    """
    problems: dict[str, str] = {}
    for each in error.problem.errors:
        name = each.pointer.strip("/").split("/")[0]
        detail = each.detail
        if detail.startswith(ONE_OF):
            name, detail = source, "Fill in this field."
        problems[name] = "\n".join(filter(None, [problems.get(name), detail]))
    return problems or {"": str(error)}
