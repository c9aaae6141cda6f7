"""Tokens per byte of an evaluation text in SQL, from which bits per byte follow.

The loss is a mean over scored tokens. With it, the tokens of the whole text over its bytes give
bits per byte (ucurve.schemas.bits_per_byte). Both are constants of a text, a tokenizer and a
window, and nothing of them is stored: rows measured before this existed have them too.
"""

from __future__ import annotations

BITS_PER_BYTE = "bits_per_byte"
LOSS = "nll_mean"
# Scored are all tokens but the first of the text, or of each window where none overlap; so the
# number of tokens follows from the number of scored ones, but for a last token alone in its window.
# `inputs` and `source` are stored out of line: they are not read for the built-in language.
EVALUATED = """
    LEFT JOIN LATERAL (
        SELECT CASE WHEN dataset ->> 'kind' = 'text' THEN
            CASE WHEN win = stride THEN div(scored, win - 1) * win
                + CASE WHEN mod(scored, win - 1) > 0 THEN mod(scored, win - 1) + 1 ELSE 0 END
            ELSE scored + 1 END / nullif(CAST(dataset ->> 'size_bytes' AS float), 0)
            END AS tokens_per_byte
        FROM (
            SELECT dataset, CAST(metrics ->> 'num_tokens' AS numeric) AS scored,
                CAST(evaluation ->> 'window' AS numeric) AS win,
                CAST(evaluation ->> 'stride' AS numeric) AS stride
            FROM (
                SELECT m.source -> 'dataset' AS dataset, m.inputs -> 'evaluation' AS evaluation,
                    {metrics} AS metrics
                WHERE m.evaluation <> ALL (ARRAY(
                    SELECT name FROM datasets WHERE kind = 'language'))
                OFFSET 0) AS stored) AS parts) AS evaluated ON true"""


def evaluated(metrics: str = "m.metrics") -> str:
    """Return a join that adds `evaluated.tokens_per_byte` to measurements `m`; null if unknown."""
    return EVALUATED.format(metrics=metrics)


def value_of(metric: str) -> tuple[str, str, str, str]:
    """Return the stored metric (parameter :metric), SQL of value and state, and the join needed."""
    value, nonfinite = "CAST(m.metrics ->> :metric AS float)", "m.nonfinite ->> :metric"
    if metric != BITS_PER_BYTE:
        return metric, value, nonfinite, ""
    state = f"CASE WHEN evaluated.tokens_per_byte IS NOT NULL THEN {nonfinite} END"
    return LOSS, f"{value} * evaluated.tokens_per_byte / ln(float8 '2')", state, evaluated()
