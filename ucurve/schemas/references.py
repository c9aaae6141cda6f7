"""Reference curves: numbers over checkpoints that were not measured in this lab.

    ucurve references add "EleutherAI's evaluations" --suite pythia-70m --lm-eval results_*.json
    ucurve references add "paper, table 2" --suite pythia-70m --csv table2.csv --citation "..."
    ucurve references list lambada --suite pythia-70m

A curve is drawn on the figures of its suite that show its metric: perplexity, perplexity_change or
accuracy. A metric may name its evaluation set, "lambada_openai/perplexity"; on an experiment with
another evaluation set it is drawn only on request. See `ucurve.figures.published`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ucurve.bounds import Name

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

    importer: str = Field(description="Tool that wrote the files: lm-eval, lighteval, olmes, csv.")
    files: list[SourceFile] = Field([], description="Files it was read from.")
    citation: str = Field("", description="Publication or tool to cite.")
    model: str = Field("", description="Model as the file names it.")
    num_left_out: int = Field(0, description="Numbers left out because they are not finite.")
    notes: list[str] = Field([], description="What to know of the numbers.")


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
    suite: Name | None = Field(
        None,
        description="Suite that the numbers are about; optional where lm-eval's files name a "
        "registered one.",
    )
    importer: Importer = Field(
        description="Format of the files; lm-eval: JSON of lm-evaluation-harness, lighteval or "
        "OLMES."
    )
    files: list[SentFile] = Field(min_length=1, max_length=500, description="The files.")
    citation: str = Field("", max_length=2000, description="Publication or tool to cite.")
    same_model: str = Field(
        "",
        max_length=1000,
        description="Model that the files name, where it is the suite's under another name.",
    )
