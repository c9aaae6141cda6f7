"""Reference curves: numbers over checkpoints that were not measured here, drawn beside ours and never mixed with them.

    ucurve references add "EleutherAI's evaluations" --suite pythia-70m --lm-eval results_step1000.json results_step4000.json
    ucurve references add "paper, table 2" --suite pythia-70m --csv table2.csv --citation "Springer et al. 2025, arXiv 2503.19206"

A curve is drawn on the figures of its suite that show its metric: perplexity, perplexity_change or accuracy. A metric may say on
what it was measured, "lambada_openai/perplexity"; on an experiment with another evaluation set it is drawn only when asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from ucurve.spec import Figure

Importer = Literal["lm-eval", "csv"]
MAX_ROWS = 20_000
MAX_CHARACTERS = 20_000_000


class ReferenceRow(BaseModel):
    """One number of one checkpoint."""

    revision: str = Field(description="Revision of the checkpoint.")
    tokens: int = Field(description="Pre-training tokens of the checkpoint.")
    metric: str = Field(description="Such as perplexity, accuracy or lambada_openai/perplexity.")
    value: float = Field(allow_inf_nan=False, description="The number.")
    standard_error: float | None = Field(
        None, allow_inf_nan=False, description="Its standard error, where the file has one."
    )


class SourceFile(BaseModel):
    """A file that a curve was read from."""

    name: str = Field(description="Name of the file.")
    sha256: str = Field(description="SHA-256 of its contents.")


class ReferenceSource(BaseModel):
    """Where a curve comes from."""

    importer: str = Field(description="lm-eval or csv.")
    files: list[SourceFile] = Field([], description="Files it was read from.")
    citation: str = Field("", description="Publication or tool to cite.")
    model: str = Field("", description="Model as the file names it.")
    num_left_out: int = Field(0, description="Numbers left out because they are not finite.")


class ReferenceCurve(BaseModel):
    """Numbers over checkpoints that were not measured in this lab."""

    id: int = Field(description="Id of the curve.")
    name: str = Field(description="Name shown in figures.")
    suite: str | None = Field(description="Suite that the numbers are about.")
    origin: ReferenceSource = Field(description="Where it comes from.")
    rows: list[ReferenceRow] = Field(description="The numbers.")
    owner: str = Field(description="User who added it.")
    created_at: datetime = Field(description="Time when it was added.")

    @property
    def metrics(self) -> list[str]:
        return list(dict.fromkeys(row.metric for row in self.rows))


class SentFile(BaseModel):
    """A file to read numbers from."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=255, description="Name of the file.")
    content: str = Field(max_length=MAX_CHARACTERS, description="Its text, unchanged.")


class ReferenceSubmission(BaseModel):
    """A reference curve to add; the server reads the files."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)

    name: str = Field(min_length=1, max_length=200, description="Name shown in figures.")
    suite: str | None = Field(
        None,
        description="Suite that the numbers are about; optional where lm-eval's files name a "
        "registered one.",
    )
    importer: Importer = Field(description="Format of the files.")
    files: list[SentFile] = Field(min_length=1, max_length=500, description="The files.")
    citation: str = Field("", max_length=2000, description="Publication or tool to cite.")


def evaluation_and_metric(metric: str) -> tuple[str | None, str]:
    """ "lambada_openai/perplexity" -> ("lambada_openai", "perplexity"). lm-eval says acc for accuracy."""
    evaluation, _, name = metric.rpartition("/")
    return evaluation or None, {"acc": "accuracy"}.get(name, name)


def choices(
    curves: Iterable[ReferenceCurve], suite: str, metrics: set[str], evaluation: str | None
) -> dict[str, tuple[int, str, bool]]:
    """What can be drawn on figures of these metrics: {label: (curve, metric, drawn unless it is unchosen)}."""
    found = {}
    for curve in curves:
        for metric in curve.metrics if curve.suite == suite else ():
            measured_on, name = evaluation_and_metric(metric)
            if name in metrics:
                label = (
                    curve.name
                    + (f" ({measured_on})" if measured_on else "")
                    + ("" if len(metrics) == 1 else f": {name}")
                )
                found[label] = (curve.id, metric, measured_on in (None, evaluation))
    return found


def shown_metrics(figures: Mapping[str, Figure]) -> set[str]:
    """The metrics over tokens that these figures show."""
    found = {figure.chart.get("usermeta", {}).get("metric") for figure in figures.values()}
    return {metric for metric in found if metric}


def drawn_over(
    figures: Mapping[str, Figure],
    curves: Sequence[ReferenceCurve],
    chosen: Iterable[tuple[int, str]],
) -> dict[str, Figure]:
    """The figures with the chosen (curve, metric) on those that show that metric."""
    if not (wanted := list(chosen)):
        return dict(figures)
    from ucurve.analysis.replication import Reference
    from ucurve.figures.published import overlaid

    by_id = {curve.id: curve for curve in curves}
    references: list[Reference] = []
    for id, metric in wanted:
        measured_on, name = evaluation_and_metric(metric)
        source = by_id[id].name + (f" ({measured_on})" if measured_on else "")
        references += [
            Reference(
                source,
                by_id[id].suite or "",
                None,
                name,
                row.tokens,
                row.value,
                {},
                row.revision,
                row.standard_error,
            )
            for row in by_id[id].rows
            if row.metric == metric
        ]
    drawn = overlaid(figures, references)
    for name, figure in drawn.items():
        if figure is not figures[name]:
            metric = figure.chart["usermeta"]["metric"]
            sources = dict.fromkeys(one.source for one in references if one.metric == metric)
            drawn[name] = replace(
                figure,
                caption=f"{figure.caption} Crosses, not measured here: {', '.join(sources)}.",
            )
    return drawn
