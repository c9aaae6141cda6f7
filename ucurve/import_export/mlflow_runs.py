"""Experiments as runs of an MLflow server: a run per experiment, and one per curve below it.

    tracker = Tracker.connect("http://mlflow:5000", "ucurve")
    tracker.write(collect(client, 7, "our lab"))        # again: the same runs, with what is new

A run is found again by its tags `ucurve.lab`, `ucurve.experiment` and `ucurve.curve`. A value that
the server has at a step already is not sent a second time; a run with another value there, because
seeds were added, is deleted and made again. Values that are not finite are counted,
not sent: MLflow's databases store inf as 1.797e308.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from ucurve.figures.files import figure_file
from ucurve.import_export.tracked_curves import TrackedCurve
from ucurve.import_export.tracked_experiment import TrackedExperiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

CURVE = "ucurve.curve"
BATCH = 1000  # metrics that the server takes at a time
MOST_TAGS = 100
LONGEST_TAG, LONGEST_PARAM = 5000, 500
HEALTH_SECONDS = 10.0
STATUS = {"done": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
INSTALL = "install it with: pip install 'ucurve[mlflow]'"


class TrackerError(ValueError):
    """The export to MLflow is not possible; the message says why and what to do."""


@dataclass
class Tracker:
    """A connection to one MLflow experiment."""

    client: MlflowClient
    experiment_id: str
    num_new: int = 0  # runs
    num_updated: int = 0
    num_values: int = 0  # metric values that were sent
    files_problem: str = ""  # why figures and tables could not be stored

    @classmethod
    def connect(cls, uri: str, name: str) -> Tracker:
        """Open the MLflow experiment, which is made if needed. Raises TrackerError."""
        for quiet in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
            os.environ.setdefault(quiet, "true")  # before it is imported
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise TrackerError(f"--mlflow needs the MLflow client: {INSTALL}") from error
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        _check_server(uri)
        with _clear_errors(uri):
            client = MlflowClient(tracking_uri=uri)
            experiment = client.get_experiment_by_name(name)
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                raise TrackerError(
                    f"the MLflow experiment {name} is deleted: restore it there, or use another "
                    "name with --mlflow-experiment"
                )
            return cls(
                client, experiment.experiment_id if experiment else client.create_experiment(name)
            )

    def write(self, tracked: TrackedExperiment) -> None:
        """Write or update the runs of one experiment. Raises TrackerError."""
        with _clear_errors("MLflow"):
            experiment = tracked.experiment
            place = {"ucurve.lab": tracked.origin, "ucurve.experiment": str(experiment.id)}
            parent, _ = self._run({**place, CURVE: "all"}, experiment.name, tracked.tags)
            tags = {f"verdict.{_name(claim)}": text for claim, text in tracked.answers.items()}
            self._set_tags(parent, {**tags, "mlflow.note.content": tracked.summary})
            self._params(parent, experiment.spec)
            for curve in tracked.curves:
                tags = {**tracked.tags, "mlflow.parentRunId": parent}
                key = {**place, CURVE: hashlib.sha256(curve.key.encode()).hexdigest()[:16]}
                run, existed = self._run(key, curve.name, tags)
                values = self._values(run, curve) if existed else {}
                if any(values.get(at, value) != value for at, value in _wanted(curve).items()):
                    self.client.delete_run(run)  # no value of a run can be changed
                    run, _ = self._run(key, curve.name, tags)
                    values = {}
                self._params(run, {**curve.labels, "step": curve.step_name})
                self._send(run, curve, values)
                self.client.set_terminated(run, STATUS.get(experiment.state, "RUNNING"))
            self._files(parent, tracked)
            self.client.set_terminated(parent, STATUS.get(experiment.state, "RUNNING"))

    def _run(self, key: dict[str, str], name: str, tags: dict[str, str]) -> tuple[str, bool]:
        """Return the id of the run with these tags, and whether it existed; else it is made."""
        conditions = " and ".join(f"tags.`{tag}` = '{_quoted(key[tag])}'" for tag in key)
        existing = self.client.search_runs([self.experiment_id], conditions, max_results=1)
        if existing:
            run_id = str(existing[0].info.run_id)
            self.client.update_run(run_id, name=name)
            self.num_updated += 1
        else:
            hashed = {tag: _quoted(value) for tag, value in key.items()}
            run = self.client.create_run(self.experiment_id, tags=hashed, run_name=name)
            run_id = str(run.info.run_id)
            self.num_new += 1
        self._set_tags(run_id, {tag: text for tag, text in tags.items() if tag not in key})
        return run_id, bool(existing)

    def _set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(name, text[:LONGEST_TAG]) for name, text in tags.items()]
        for first in range(0, len(entities), MOST_TAGS):
            self.client.log_batch(run_id, tags=entities[first : first + MOST_TAGS])

    def _params(self, run_id: str, values: dict[str, Any]) -> None:
        """Store parameters that the run does not have: MLflow changes none."""
        from mlflow.entities import Param

        stored = self.client.get_run(run_id).data.params
        params = [
            Param(_name(name), _param(value)[:LONGEST_PARAM])
            for name, value in values.items()
            if _name(name) not in stored
        ]
        for first in range(0, len(params), MOST_TAGS):
            self.client.log_batch(run_id, params=params[first : first + MOST_TAGS])

    def _values(self, run_id: str, curve: TrackedCurve) -> dict[tuple[str, int], float]:
        """Return the values that the run has, by name and step."""
        return {
            (name, metric.step): metric.value
            for name in dict.fromkeys(name for name, _ in _wanted(curve))
            for metric in self.client.get_metric_history(run_id, name)
        }

    def _send(self, run_id: str, curve: TrackedCurve, sent: dict[tuple[str, int], float]) -> None:
        """Send the values that the run does not have yet."""
        from mlflow.entities import Metric

        milliseconds = int(time.time() * 1000)
        missing = [
            Metric(name, value, milliseconds, step)
            for (name, step), value in _wanted(curve).items()
            if (name, step) not in sent
        ]
        for first in range(0, len(missing), BATCH):
            self.client.log_batch(run_id, metrics=missing[first : first + BATCH])
        self.num_values += len(missing)

    def _files(self, run_id: str, tracked: TrackedExperiment) -> None:
        """Store verdicts, table, figures and provenance; a server may have no place for files."""
        from mlflow.exceptions import MlflowException

        files = {
            "verdicts.json": json.dumps(tracked.verdicts_json, indent=1),
            "measurements.csv": tracked.csv,
            "provenance.json": tracked.provenance.model_dump_json(indent=1),
            "spec.json": json.dumps(tracked.experiment.spec, indent=1),
        }
        files |= {
            f"figures/{name}.json": figure_file(figure, "json").decode()
            for name, figure in tracked.figures.items()
        }
        try:
            for name, text in files.items():
                self.client.log_text(run_id, text, f"ucurve/{name}")
        except (MlflowException, OSError, ImportError) as error:
            self.files_problem = f"{error}".partition("\n")[0]


def _wanted(curve: TrackedCurve) -> dict[tuple[str, int], float]:
    """Return the values of a curve by MLflow's name and step."""
    return {
        (_name(name), step): value
        for step, point in sorted(curve.points.items())
        for name, value in point.items()
    }


def _check_server(uri: str) -> None:
    """Raise TrackerError at once for a server that is away: MLflow's client waits for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    try:
        answer = httpx.get(f"{uri.rstrip('/')}/health", timeout=HEALTH_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TrackerError(
            f"cannot reach an MLflow server at {uri} ({error or type(error).__name__}): check the "
            "address, or use a database such as sqlite:///mlflow.db"
        ) from error
    if answer.status_code in (401, 403):
        return  # it asks for the credentials that MLflow's client sends
    if not answer.is_success or answer.text.strip() != "OK":
        raise TrackerError(f"{uri} answers, but is not an MLflow server: check the address")


@contextmanager
def _clear_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into one line."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        first = str(error).partition("\n")[0].strip()
        hint = ""
        if "file" in first and "maintenance mode" in first:
            first = "MLflow no longer writes to a folder"
            hint = ": use a database such as sqlite:///mlflow.db, or a server"
        elif "unsupported URI" in first:
            first = f"{uri} is no tracking address of MLflow"
            hint = ": use http(s)://..., or a database such as sqlite:///mlflow.db"
        raise TrackerError(f"{first}{hint}") from error


def _name(text: str) -> str:
    """Return a name that MLflow takes: it may become the path of a file."""
    allowed = "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in text)
    parts = [part for part in allowed.strip("/ ")[:250].split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "_"


def _quoted(text: str) -> str:
    """Return the value of a tag by which a run is found: MLflow's filters escape no quote."""
    return text.replace("'", "’").replace("\\", "/")[:LONGEST_TAG]


def _param(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
