"""What the files of a suite's checkpoints show: leftovers of other saves, tokenizers, contexts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ucurve.registry.suites import (
    AT_THE_SUITE,
    Checkpoint,
    Remark,
    enumerated,
    sort_checkpoints,
)

MAX_GROUPS = 4  # of checkpoints that are named with their tokenizer or context


def file_remarks(checkpoints: Iterable[Checkpoint]) -> list[Remark]:
    """Return the remarks of all checkpoints, equal ones once, and how the checkpoints differ.

    Of a missing tokenizer, or of files, only the suite itself warns: new numbers do not exist then.
    """
    usable = [c for c in sort_checkpoints(checkpoints) if c.is_read]
    by_remark: dict[str, list[str]] = defaultdict(list)
    for checkpoint in usable:
        for remark in checkpoint.remarks:
            if remark.endswith(AT_THE_SUITE):
                continue
            by_remark[remark].append(checkpoint.revision)
    return [
        *(
            Remark(kind="files", revisions=names, message=f"{enumerated(names)}: {remark}.")
            for remark, names in by_remark.items()
        ),
        *_two_tokenizers(usable),
        *_two_contexts(usable),
    ]


def by_tokenizer(checkpoints: Iterable[Checkpoint]) -> list[list[Checkpoint]]:
    """Group checkpoints by how their tokenizers cut a text; those without one are left out."""
    with_one = [c for c in checkpoints if c.tokenizer_sha256]
    contents = {c.tokenizer_sha256: c.tokenizer_content for c in with_one if c.tokenizer_content}
    groups: dict[str | None, list[Checkpoint]] = defaultdict(list)
    for checkpoint in with_one:
        sha256 = checkpoint.tokenizer_sha256
        groups[contents.get(sha256) or sha256].append(checkpoint)
    return list(groups.values())


def _two_tokenizers(checkpoints: Sequence[Checkpoint]) -> list[Remark]:
    groups = by_tokenizer(checkpoints)
    if len(groups) < 2:
        return []
    names = [[c.revision for c in group] for group in groups]
    message = (
        f"{len(groups)} tokenizers: {_listed(names)}. Their losses are no curve in nats per token: "
        "measure those of one tokenizer together, and compare the others in bits per byte."
    )
    return [
        Remark(
            kind="tokenizers",
            revisions=[c.revision for group in groups for c in group],
            message=message,
        )
    ]


def _two_contexts(checkpoints: Sequence[Checkpoint]) -> list[Remark]:
    groups: dict[int, list[str]] = defaultdict(list)
    for checkpoint in checkpoints:
        if checkpoint.context:
            groups[checkpoint.context].append(checkpoint.revision)
    if len(groups) < 2:
        return []
    contexts = ", ".join(f"{size:,} tokens ({enumerated(groups[size])})" for size in sorted(groups))
    message = (
        f"{len(groups)} lengths of context: {contexts}. Give one window for all, at most "
        f"{min(groups):,}."
    )
    revisions = [name for names in groups.values() for name in names]
    return [Remark(kind="contexts", revisions=revisions, message=message)]


def _listed(groups: Sequence[Sequence[str]]) -> str:
    more = f"; and {len(groups) - MAX_GROUPS} more" if len(groups) > MAX_GROUPS else ""
    return "; ".join(enumerated(names) for names in groups[:MAX_GROUPS]) + more
