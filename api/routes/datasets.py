"""Register and read datasets.

POST /v1/datasets {"name": "wikitext-2", "preset": "wikitext-2"}
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from fastapi import Path as ApiPath
from sqlalchemy import select

from api.auth.authorization import Owner
from api.background.hashing import start_hashing
from api.catalogue import as_dataset
from api.dataset_tokens import with_token_counts
from api.errors import ApiError, invalid, not_found
from api.registration import register_dataset, registered_path
from db.models import Dataset as DatasetRow
from db.session import open_session
from db.unit_of_work import after_commit
from ucurve.bounds import Name
from ucurve.disk_space import is_disk_full
from ucurve.registry import presets
from ucurve.registry.artifacts import location_of
from ucurve.registry.datasets.example_rows import SplitError, understood_examples
from ucurve.registry.datasets.record_files import DataFileError
from ucurve.registry.datasets.text_files import understood_text
from ucurve.registry.discover import WAITING
from ucurve.registry.resolve import INLINE_BYTES, resolve_dataset
from ucurve.registry.roots import LocationError, open_file
from ucurve.registry.suites import Dataset
from ucurve.schemas.catalogue import DatasetSubmission

router = APIRouter(prefix="/v1", tags=["datasets"])

EXAMPLES: dict[str, Any] = {
    "preset": {
        "summary": "A preset of the hub",
        "value": {"name": "wikitext-2", "preset": "wikitext-2"},
    },
    "text": {"summary": "A text file", "value": {"name": "novels", "text": "/texts/novels.txt"}},
    "examples": {
        "summary": "Examples to fine-tune on",
        "value": {
            "name": "sst2",
            "train": "/data/sst2/train.tsv",
            "validation": "/data/sst2/dev.tsv",
        },
    },
}


@router.get("/datasets", summary="List datasets")
def list_datasets() -> list[Dataset]:
    """Evaluation sets, training texts, and examples to fine-tune on."""
    with open_session() as session:
        rows = session.scalars(select(DatasetRow).order_by(DatasetRow.name))
        return [as_dataset(row) for row in rows]


@router.get("/datasets/{name}", summary="Get a dataset")
def show_dataset(
    name: Annotated[Name, ApiPath(description="Name of the dataset.")],
) -> Dataset:
    """The dataset with its hash and size."""
    with open_session() as session:
        row = session.get(DatasetRow, name)
        if row is None:
            raise not_found(f"dataset {name!r}")
        return as_dataset(row)


@router.post(
    "/datasets",
    status_code=201,
    responses={200: {"model": Dataset, "description": "The dataset exists and was updated."}},
    summary="Register a dataset",
)
def add_dataset(
    submission: Annotated[DatasetSubmission, Body(openapi_examples=EXAMPLES)],
    owner: Owner,
    response: Response,
) -> Dataset:
    """Register the same name and file again to hash the file again."""
    dataset = _dataset_of(submission)
    with open_session() as session:
        existing = session.get(DatasetRow, dataset.name)
        if existing and as_dataset(existing).location != dataset.location:
            raise ApiError(
                409,
                f"Dataset {dataset.name!r} exists and comes from another source: "
                "choose another name.",
            )
        dataset = with_token_counts(session, dataset)
        register_dataset(session, dataset, owner)
        session.commit()
        after_commit(start_hashing)
        response.status_code = 200 if existing else 201
        return dataset


def _dataset_of(submission: DatasetSubmission) -> Dataset:
    """Return the dataset that a submission names, hashed where it is small; 422 names the field."""
    sources = [submission.text, submission.train or submission.validation, submission.preset]
    if sum(source is not None for source in sources) != 1:
        raise invalid(
            "/text",
            "Give one of text (a file), train with validation (two files), or preset (a name).",
        )
    if submission.preset:
        presets_by_name = {dataset.name: dataset for dataset in presets.datasets()}
        return _renamed(presets_by_name[submission.preset], submission)
    files = _files_of(submission)
    field = next(iter(files))
    if submission.text:
        dataset = Dataset(name="", kind="text", location=location_of(files["text"]))
        dataset = _understood("text", understood_text, dataset, files["text"], submission.column)
    else:
        folder = Path(os.path.commonpath([path.parent for path in files.values()]))
        registered_path(f"/{field}", str(folder))  # two files of two folders have none in common
        names = {split: str(path.relative_to(folder)) for split, path in files.items()}
        dataset = Dataset(name="", kind="examples", parameters=names, location=location_of(folder))
        dataset = _understood(field, understood_examples, dataset, files)
    dataset = _renamed(dataset, submission).model_copy(update={"unresolved": WAITING})
    if sum(path.stat().st_size for path in files.values()) <= INLINE_BYTES:
        dataset = resolve_dataset(dataset)
    if dataset.unresolved and not dataset.is_pending:
        raise invalid(f"/{field}", f"{dataset.unresolved}.")
    return dataset


def _understood(field: str, understand: Callable[..., Dataset], *arguments: Any) -> Dataset:
    """Return the dataset as plain files with what was understood; 422 says what is wrong."""
    try:
        return understand(*arguments)
    except SplitError as error:
        raise invalid(f"/{error.split}", f"{error}.") from error
    except (DataFileError, LocationError, OSError) as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        raise invalid(f"/{field}", f"{error}.") from error


def _renamed(dataset: Dataset, submission: DatasetSubmission) -> Dataset:
    description = submission.description or dataset.description
    return dataset.model_copy(update={"name": submission.name, "description": description})


def _files_of(submission: DatasetSubmission) -> dict[str, Path]:
    """Return the files by field; 422 where one is not absolute or cannot be read."""
    if submission.text:
        paths = {"text": submission.text}
    else:
        both = {"train": submission.train, "validation": submission.validation}
        paths = {name: path for name, path in both.items() if path}
        for name in both.keys() - paths.keys():
            raise invalid(
                f"/{name}", f"Examples need two files, train and validation: give {name}."
            )
    files = {field: registered_path(f"/{field}", path) for field, path in paths.items()}
    for field, path in files.items():
        try:
            open_file(path).close()
        except (LocationError, OSError) as error:
            message = f"{path} is not a file that the server can read."
            raise invalid(f"/{field}", message) from error
    return files
