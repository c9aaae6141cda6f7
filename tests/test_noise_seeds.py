"""Noise seeds: shared by all pre-training seeds, as ever, or of their own where a spec says so."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from test_kinds import Catalogue

from ucurve.analysis.comparison import ComparedExperiment
from ucurve.experiments import parse
from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.figures.noise_seeds import noise_text
from ucurve.spec import Point

NOISE: dict[str, Any] = {"kind": "gaussian_perturbation", "gammas": [0.1, 0.2], "draws": 3}
APART = {**NOISE, "noise_seeds": "per_replicate"}


def perturbed(spec: dict[str, Any], replicate: int | None = None) -> list[Point]:
    return [
        point
        for point in parse(spec).plan(Catalogue())
        if point.inputs["perturbation"] and replicate in (None, point.labels["replicate"])
    ]


def seeds(points: list[Point]) -> set[int]:
    return {point.inputs["perturbation"]["seed"] for point in points}


def test_noise_is_shared_by_default_and_the_field_is_in_no_identity() -> None:
    points = perturbed(NOISE)
    assert {point.labels["replicate"] for point in points} == {0, 1}
    assert all(p.inputs["perturbation"]["seed"] == p.labels["draw"] for p in points)
    assert [p.identity for p in perturbed({**NOISE, "noise_seeds": "shared"})] == [
        point.identity for point in points
    ]
    assert not any("noise_seeds" in point.inputs["perturbation"] for point in perturbed(APART))


def test_noise_per_replicate_has_no_seed_in_two_of_them_and_keeps_the_pairs_within_one() -> None:
    assert [p.identity for p in perturbed(APART, 0)] == [p.identity for p in perturbed(NOISE, 0)]
    points = perturbed(APART, 1)
    assert seeds(points) == {1000, 1001, 1002}
    places: dict[tuple[Any, ...], set[int]] = {}
    for point in points:
        place = tuple(point.labels[name] for name in ("revision", "gamma", "scale"))
        places.setdefault(place, set()).add(point.inputs["perturbation"]["seed"])
    assert all(found == {1000, 1001, 1002} for found in places.values())
    spec = parse(APART).with_more_draws(997)
    assert isinstance(spec, GaussianPerturbation)
    last = spec.first_seed({"replicate": 0}) + spec.draws - 1
    assert last < spec.first_seed({"replicate": 1})


def test_noise_of_its_own_is_that_of_a_shared_first_seed_so_that_results_are_reused() -> None:
    same = perturbed({**NOISE, "seed": 1000}, 1)
    assert {p.identity for p in same} == {p.identity for p in perturbed(APART, 1)}
    assert seeds(perturbed({**APART, "seed": 7}, 1)) == {1007, 1008, 1009}
    assert parse(APART).count(Catalogue()) == parse(NOISE).count(Catalogue())


def test_draws_of_two_experiments_pair_exactly_where_their_noise_is_the_same() -> None:
    shared, apart, later = (
        ComparedExperiment(1, "", parse(spec), [])
        for spec in (NOISE, APART, {**NOISE, "seed": 1000})
    )
    first, second = ({"replicate": replicate, "draw": 2} for replicate in (0, 1))
    assert shared.draw(first) == apart.draw(first) != later.draw(first)
    assert shared.draw(second) != apart.draw(second) == later.draw(second)


@pytest.mark.parametrize(
    ("first_seeds", "draws", "text"),
    [
        ({}, 3, ""),
        ({0: 0}, 8, "Noise seeds: 0 to 7."),
        ({2: 2000}, 1, "Noise seeds: 2000."),
        (
            {0: 5, 1: 5},
            2,
            "Noise seeds: 5 to 6, the same for all pre-training seeds, so that their errors are "
            "not independent.",
        ),
        (
            {0: 0, 1: 1000},
            2,
            "Noise seeds: 0 to 1 (pre-training seed 0), 1000 to 1001 (pre-training seed 1).",
        ),
    ],
)
def test_captions_name_the_noise_seeds(first_seeds: dict[int, int], draws: int, text: str) -> None:
    assert noise_text(first_seeds, draws) == text


def test_the_curves_of_an_experiment_name_the_noise_seeds_of_its_pre_training_seeds() -> None:
    for spec, text in ((NOISE, "0 to 2, the same for all"), (APART, "1000 to 1002 (pre-training")):
        labels = [dict(point.labels) for point in parse(spec).plan(Catalogue())]
        table = pd.DataFrame(labels).assign(state="open", series=None)
        figures = parse(spec).figures(table.assign(measurement=range(len(table))))
        assert text in figures["perplexity"].caption
        assert text in figures["loss_change"].caption
