"""Registration of suites and datasets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ucurve.bounds import FilePath, Name, Prose
from ucurve.registry.names.token_batches import MAX_TOKENS_PER_STEP, parse_batches
from ucurve.registry.suites import Checkpoint
from ucurve.schemas.strict_numbers import StrictNumbers

UPLOAD = "upload:"  # prefix of an uploaded file where a path may be named
FORMATS = ("txt", "tsv", "csv", "jsonl", "json", "parquet")
PACKINGS = ("gz", "zst", "bz2", "xz")
UPLOADED = rf"[0-9a-f]{{64}}\.({'|'.join(FORMATS)})(\.({'|'.join(PACKINGS)}))?"  # its name
MAX_UPLOAD_BYTES = 256 * 2**20
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"


class SuiteSubmission(StrictNumbers):
    """A suite to register: a folder of checkpoints or a hub repository."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        pattern=NAME, max_length=80, description="Name of the suite, unique in the lab."
    )
    path: FilePath | None = Field(
        None,
        description="Folder with one sub-folder per revision, below a folder of UCURVE_MODELS; "
        "readable by the API and all workers.",
    )
    hub: Name | None = Field(
        None, description='Hub repository "owner/name"; its branches and tags are the revisions.'
    )
    description: Prose = Field("", description="Shown with the suite.")
    evaluation: Name | None = Field(
        None, description="Default evaluation set of experiments on this suite."
    )
    repositories: list[Name] | None = Field(
        None,
        min_length=2,
        max_length=100,
        description="Hub repositories of the same model, one per pre-training seed.",
    )
    preset: Name | None = Field(
        None, description="A suite that the package knows, by its name in GET /v1/presets."
    )
    tokens_per_step: (
        Annotated[int, Field(gt=0, le=MAX_TOKENS_PER_STEP)]
        | Annotated[str, Field(max_length=20_000)]
        | None
    ) = Field(
        None,
        description="Tokens per optimiser step, for revision names that give steps only; where the "
        'batch changed, ranges FIRST_STEP:TOKENS such as "0:2097152,1000:4194304". Not needed for '
        "known repositories.",
    )
    positions: Annotated[str, Field(max_length=2_000_000)] | None = Field(
        None,
        description="CSV that corrects what the names say, as `table` of POST /v1/suites/preview: "
        "revision, and any of its other columns.",
    )

    @field_validator("tokens_per_step")
    @classmethod
    def _ranges(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, str):
            if ":" not in value:
                raise ValueError(
                    "write one number as a number; text is for ranges like 0:100,50:200"
                )
            parse_batches(value)
        return value


class SuitePreview(BaseModel):
    """A suite as it would be registered."""

    name: str = Field(description="Name of the suite.")
    description: str = Field(description="What the model is.")
    evaluation: str | None = Field(description="Default evaluation set of experiments.")
    checkpoints: list[Checkpoint] = Field(
        description="Checkpoints in order of training; `position_source` says from where."
    )
    left_out: dict[str, str] = Field(
        description="Why other revisions are left out, by name; a line of the table adds one."
    )
    questions: list[str] = Field(description="What is not certain: check it in the table.")
    warnings: list[str] = Field(description="What to know before using it.")
    table: str = Field(description="The positions as CSV, to be corrected and sent back.")


class DatasetSubmission(BaseModel):
    """A dataset to register: a text, examples for fine-tuning, or a preset of the hub."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        pattern=NAME, max_length=80, description="Name of the dataset, unique in the lab."
    )
    text: FilePath | None = Field(
        None,
        description="A UTF-8 text file: its path below a folder of UCURVE_MODELS, readable by the "
        "API and all workers, or the `file` that POST /v1/uploads returned. Documents of a .jsonl, "
        ".json, .csv, .tsv or Parquet file are joined by blank lines; .gz, .zst, .bz2 and .xz are "
        "unpacked.",
    )
    column: Name | None = Field(
        None, description="Column of the documents of `text`, where it is not called text."
    )
    train: FilePath | None = Field(
        None,
        description="Training examples, a path or an uploaded file as in `text`: .tsv or .csv with "
        "a header, .jsonl, .json or Parquet; columns sentence (or text) and label, prompt and "
        "completion, or instruction and output.",
    )
    validation: FilePath | None = Field(
        None, description="Validation examples, a path or an uploaded file in the same format."
    )
    preset: Literal["wikitext-2", "sst2"] | None = Field(
        None, description="A dataset of the hub, downloaded on first use."
    )
    description: Prose = Field("", description="Shown with the dataset.")


class UploadedFile(BaseModel):
    """A text or a file of examples, stored by the lab under its SHA-256."""

    file: str = Field(description="Its name for a dataset: upload:SHA256.SUFFIX.")
    size_bytes: int = Field(description="Size in bytes.")
