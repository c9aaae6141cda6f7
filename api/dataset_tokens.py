"""A newly registered text in tokens of the suites that the lab has."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from api.catalogue import as_checkpoint
from db.models import Checkpoint as CheckpointRow
from ucurve.registry.datasets.token_counts import count_text
from ucurve.registry.suites import TOKENS_FOR, Dataset

MAX_TOKENIZERS = 5  # that a registration waits for


def with_token_counts(session: Session, dataset: Dataset) -> Dataset:
    """Return a text with its tokens for the tokenizers of registered suites, each once.

    Unchanged where it is no text, or not hashed yet.
    """
    if dataset.kind != "text" or not dataset.sha256 or dataset.unresolved:
        return dataset
    first_of_each = (
        select(CheckpointRow)
        .where(CheckpointRow.tokenizer_sha256.is_not(None))
        .ext(distinct_on(CheckpointRow.tokenizer_sha256))
        .order_by(CheckpointRow.tokenizer_sha256, CheckpointRow.id)
        .limit(MAX_TOKENIZERS)
    )
    checkpoints = [as_checkpoint(row) for row in session.scalars(first_of_each)]
    session.commit()  # counting takes seconds, longer than a transaction may be idle
    tokens = {}
    for checkpoint in checkpoints:
        if (count := count_text(dataset, checkpoint)) is not None:
            about = count.tokens_per_byte * (dataset.size_bytes or 0)
            tokens[f"{TOKENS_FOR}{checkpoint.suite}"] = round(about)
    return dataset.model_copy(update={"parameters": {**dataset.parameters, **tokens}})
