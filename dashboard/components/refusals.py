"""Refusals of the API as a form shows them: each field under its own label."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ucurve.client import RequestRejectedError
from ucurve.client.http import field_name

ONE_OF = "Give one of "  # starts what the API says where no source is given
SUITE = {
    "name": "Name",
    "path": "Folder",
    "hub": "Repository",
    "repositories": "Repository",
    "preset": "Preset",
    "evaluation": "Default evaluation set",
    "tokens_per_step": "Tokens per step",
    "description": "Description",
    "positions": "Corrected positions",
}
REFERENCE = {
    "name": "Name",
    "suite": "Suite",
    "importer": "Format",
    "files": "Files",
    "citation": "Citation",
    "same_model": "Model in the files",
}


def refusal(error: Exception, labels: Mapping[str, str], source: str | None = None) -> str:
    """Return the message of an error, with the labels of a form for the fields of the API.

    source: the field that the form shows, where the API has several of which one must be given.
    """
    if not isinstance(error, RequestRejectedError) or not error.problem.errors:
        return str(error)
    lines = []
    for wrong in error.problem.errors:
        field = wrong.pointer.strip("/").partition("/")[0]
        detail = _with_labels(wrong.detail, labels)
        if source and wrong.detail.startswith(ONE_OF):
            field, detail = source, "Fill in this field."
        label = labels.get(field, field_name(wrong.pointer))
        lines.append(f"{label}: {detail}".removeprefix(": "))
    return "\n".join(lines)


def _with_labels(detail: str, labels: Mapping[str, str]) -> str:
    """Name fields in a sentence by their labels; names in one word may be words of the sentence."""
    for field, label in labels.items():
        if "_" in field:
            detail = re.sub(rf"(?<![\w-]){field}(?![\w-])", f"“{label}”", detail)
    return detail
