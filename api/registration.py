"""Register suites and datasets: those of the package, and those that a request names."""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from pathlib import Path

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.catalogue import DatabaseCatalogue
from api.errors import invalid
from api.layouts import read_layouts, store_layouts
from db.models import Dataset as DatasetRow
from db.submissions import SuiteTakenError, register_suite
from ucurve.registry import presets
from ucurve.registry.roots import BUILTIN, UPLOADS, LocationError, registered
from ucurve.registry.suites import Dataset, Suite
from ucurve.schemas.catalogue import UPLOAD, UPLOADED
from ucurve.settings import settings

log = logging.getLogger(__name__)


def registered_path(pointer: str, path: str) -> Path:
    """Return the path of a request's field; 422 unless it is absolute and below a folder that the
    lab reads. Whether a file outside exists is not said.
    """
    if path.startswith(UPLOAD):
        return _uploaded_path(pointer, path.removeprefix(UPLOAD))
    with suppress(RuntimeError):  # ~ of an unknown user
        path = str(Path(path).expanduser())
    if not Path(path).is_absolute():
        raise invalid(
            pointer,
            f"Give an absolute path that the server and all workers can read; got {path!r}.",
        )
    try:
        registered(Path(path))
    except LocationError as error:
        raise invalid(pointer, f"{error}.") from error
    return Path(path)


def _uploaded_path(pointer: str, name: str) -> Path:
    path = settings().artefacts / UPLOADS / name
    if re.fullmatch(UPLOADED, name) is None or not path.is_file():
        raise invalid(pointer, "This file was not uploaded: send it to POST /v1/uploads first.")
    return path


def register_dataset(session: Session, dataset: Dataset, owner: str) -> None:
    """Insert a dataset, or update the one of its name; the caller commits."""
    values = {**dataset.model_dump(mode="json"), "owner": owner}
    new = insert(DatasetRow).values(values)
    changes = {name: new.excluded[name] for name in values if name not in ("name", "owner")}
    session.execute(new.on_conflict_do_update(index_elements=["name"], set_=changes))


def require_dataset(session: Session, name: str, owner: str) -> None:
    """Register the preset of this name where no dataset has it; 422 where there is neither."""
    if session.get(DatasetRow, name) is not None:
        return
    preset = {dataset.name: dataset for dataset in presets.datasets()}.get(name)
    if preset is None:
        raise invalid("/evaluation", DatabaseCatalogue(session).no_dataset(name))
    register_dataset(session, preset, owner)


def register_builtin(session: Session) -> None:
    """Register the suites and datasets of the package; idempotent, the caller commits."""
    listed = BUILTIN / "datasets.json"
    for entry in json.loads(listed.read_text()) if listed.is_file() else []:
        register_dataset(session, Dataset.model_validate(entry), "")
    for manifest in sorted(BUILTIN.glob("suites/*/suite.json")):
        suite = Suite.model_validate_json(manifest.read_bytes())
        row = suite.model_dump(mode="json", include={"name", "description", "evaluation", "recipe"})
        described, layouts = read_layouts(suite.checkpoints)
        checkpoints = [checkpoint.model_dump(mode="json") for checkpoint in described]
        try:
            store_layouts(session, layouts)
            register_suite(session, row, checkpoints)
        except SuiteTakenError as error:  # the database has the suite of an earlier version
            log.warning("the built-in suite is not registered: %s", error)
