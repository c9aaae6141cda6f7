"""The contract of every experiment type, and a new type added as a single file."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from conftest import Lab
from generated_specs import FIELDS, generated

from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import kinds, parse
from ucurve.registry.suites import Dataset, Suite
from ucurve.spec import Figure, Point, Spec, SpecError, Verdict, canonical

BUILTIN = Path(__file__).parents[1] / "ucurve" / "builtin"
EXTERNAL_KINDS = Path(__file__).parent / "kinds"


class Catalogue:
    """The built-in suites and evaluation sets."""

    def find_suite(self, name: str) -> Suite | None:
        manifest = BUILTIN / "suites" / name / "suite.json"
        return Suite.model_validate_json(manifest.read_bytes()) if manifest.is_file() else None

    def suite(self, name: str, field: str = "suite") -> Suite:
        if (suite := self.find_suite(name)) is None:
            raise SpecError(field, f"no suite {name}")
        return suite

    def dataset(self, name: str, field: str = "evaluation") -> Dataset:
        for entry in json.loads((BUILTIN / "datasets.json").read_text()):
            if entry["name"] == name:
                return Dataset.model_validate(entry)
        raise SpecError(field, f"no dataset {name}")


def specs() -> Iterator[Spec]:
    for name, kind in kinds().items():
        yield parse({"kind": name})
        for values in kind.presets.values():
            spec = parse({"kind": name, **values})
            # Suites of the hub cannot be planned offline.
            if name == "pretraining" or Catalogue().find_suite(getattr(spec, "suite", "tiny")):
                yield spec


def planned(spec: Spec) -> list[Point]:
    return list(spec.plan(Catalogue()))


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (
            {"kind": "gaussian_perturbation", "gammas": [0.3, 0.05], "draws": 5},
            "Gaussian perturbation of tiny, γ 0.05 to 0.3, 5 noise seeds",
        ),
        (
            {"kind": "fine_tuning", "learning_rates": [3e-3]},
            "Fine-tuning of tiny, learning rate 0.003, full",
        ),
        ({"kind": "pretraining", "suite": "mine"}, "Pre-training of mine"),
    ],
)
def test_the_default_name_states_the_settings(spec: dict[str, Any], name: str) -> None:
    assert parse(spec).default_name() == name


@pytest.mark.parametrize("kind", kinds())
def test_every_experiment_type_has_a_default_name_and_a_title(kind: str) -> None:
    assert parse({"kind": kind}).default_name()
    assert kinds()[kind].kind_title()


@pytest.mark.parametrize("kind", kinds())
def test_default_specs_can_be_planned_and_survive_a_round_trip_through_json(kind: str) -> None:
    spec = parse({"kind": kind})
    assert planned(spec)
    assert parse(spec.model_dump(mode="json")) == spec
    assert spec.title
    assert (spec.__doc__ or "").strip()


@pytest.mark.parametrize("spec", list(specs()), ids=lambda spec: spec.kind)
def test_plans_are_deterministic_and_their_points_are_plain_json(spec: Spec) -> None:
    points = planned(spec)
    assert [point.identity for point in points] == [point.identity for point in planned(spec)]
    for point in points:
        for part in (point.inputs, point.labels, point.artifacts):
            assert json.loads(canonical(part)) == part
        assert point.estimated_seconds > 0
        kind = f":{json.dumps(spec.kind)}"  # "pruning/1" is a protocol, "interpolation" a key too
        assert kind not in canonical(point.inputs), "the kind must not be part of the identity"


@pytest.mark.parametrize("kind", FIELDS)
def test_a_spec_counts_its_points_without_building_them(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = list(generated(kind, 120))
    lengths = [len({point.identity for point in planned(spec)}) for spec in drawn]
    assert len(set(lengths)) > 10, "the specs differ in size"
    monkeypatch.setattr(Point, "__init__", lambda *_, **__: pytest.fail("a point was built"))
    assert [spec.count(Catalogue()) for spec in drawn] == lengths


def test_specs_are_generated_for_every_experiment_type_of_the_package() -> None:
    assert FIELDS.keys() == kinds().keys()


@pytest.mark.parametrize("kind", kinds())
def test_every_field_has_a_description_or_a_title(kind: str) -> None:
    for name, field in kinds()[kind].model_fields.items():
        assert name == "kind" or field.description or field.title, name


@pytest.mark.parametrize("kind", kinds())
def test_tables_without_measurements_give_valid_figures_and_undetermined_verdicts(
    kind: str,
) -> None:
    spec = parse({"kind": kind})
    waiting: list[dict[str, Any]] = [
        {
            **point.labels,
            "measurement": i,
            "position": i,
            "state": "open",
            "error": None,
            "series": {},
            "live": None,
            "reused": False,
        }
        for i, point in enumerate(planned(spec))
    ]
    for table in (pd.DataFrame(waiting), to_frame([])):
        for figure in spec.figures(table).values():
            json.dumps(figure.vega_lite(), allow_nan=False)
            assert figure.title
        assert {verdict.answer for verdict in spec.verdicts(table)} <= {"undetermined"}


NUM_WORKERS = 1


@pytest.fixture(scope="module", autouse=True)
def _kind() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_KINDS", str(EXTERNAL_KINDS))
        yield


def test_an_experiment_type_outside_the_package_runs_from_plan_to_figure(
    lab: Lab, tmp_path: Path
) -> None:
    spec = {"kind": "slow_count", "to": [2, 3], "step_seconds": 0.01}
    assert lab.client.plan(spec).num_new == 2
    id = lab.client.submit(spec).id
    assert lab.client.wait(id, timeout=60).state == "done"
    assert lab.client.verdicts(id)[0].sentence == "2 points counted."
    subprocess.run(
        [
            sys.executable,
            "-m",
            "ucurve.cli",
            "figures",
            str(id),
            "-o",
            str(tmp_path),
            "--format",
            "svg",
        ],
        env={**os.environ, "UCURVE_URL": lab.url},
        check=True,
        capture_output=True,
        timeout=120,
    )
    (svg,) = tmp_path.glob("*.svg")
    assert "counted" in svg.read_text()


def test_figures_that_take_only_the_table_still_work_and_warn() -> None:
    figure = Figure("title", "caption", {}, {})
    with pytest.warns(DeprecationWarning, match=r"define figures\(table, verdicts=\(\)\)"):

        class OldKind(Spec):
            kind: Literal["old"] = "old"

            def figures(self, table: pd.DataFrame) -> dict[str, Figure]:  # type: ignore[override]
                return {f"{len(table)} rows": figure}

    verdict = Verdict(claim="c", answer="yes", sentence="It is.")
    assert OldKind().figures(pd.DataFrame(), [verdict]) == {"0 rows": figure}
