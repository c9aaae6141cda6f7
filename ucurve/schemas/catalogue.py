"""Registration of suites and datasets."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ucurve.bounds import FilePath, Name, Prose
from ucurve.schemas.strict_numbers import StrictNumbers

UPLOAD = "upload:"  # prefix of an uploaded file where a path may be named
UPLOADED = r"[0-9a-f]{64}\.(txt|tsv|jsonl|json)"  # its name
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
    tokens_per_step: int | None = Field(
        None,
        gt=0,
        description="Tokens per optimiser step, for revision names that give steps only; not "
        "needed for known repositories.",
    )


class DatasetSubmission(BaseModel):
    """A dataset to register: a text, examples for fine-tuning, or a preset of the hub."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        pattern=NAME, max_length=80, description="Name of the dataset, unique in the lab."
    )
    text: FilePath | None = Field(
        None,
        description="A UTF-8 text file: its path below a folder of UCURVE_MODELS, readable by the "
        "API and all workers, or the `file` that POST /v1/uploads returned.",
    )
    train: FilePath | None = Field(
        None,
        description="Training examples, a path or an uploaded file as in `text`: .tsv with a "
        "header, or .jsonl; columns sentence and label, or prompt and completion.",
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
