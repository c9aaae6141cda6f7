"""Studies: submitted completely or not at all, judged together, extended by more draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from conftest import Lab

from ucurve.analysis import condition_verdicts, inflection_points, replication, study_verdicts
from ucurve.analysis.conditions import Condition
from ucurve.analysis.inflection_points import compare
from ucurve.analysis.study_experiment import StudyExperiment
from ucurve.analysis.verdict_order import more_draws
from ucurve.cli import main
from ucurve.client import RequestRejectedError
from ucurve.experiments import parse
from ucurve.experiments.study import Study, builtin
from ucurve.schemas.results import ConditionMinimum, Minimum, Verdict

SHARED_LAB = True

SMALL = {"kind": "linear_model", "num_features": 6, "width": 8, "draws": 4, "targets": 2}


def study(**second: Any) -> Study:
    specs = [SMALL, {**SMALL, "seed": 1, **second}]
    return Study.model_validate(
        {
            "name": "both",
            "experiments": [{"name": f"part {i}", "spec": spec} for i, spec in enumerate(specs)],
        }
    )


# ---- what is submitted


def test_a_study_is_submitted_whole_tagged_and_again_without_measuring_anything_again(
    lab: Lab,
) -> None:
    first = lab.client.submit_study(study())
    assert [(one.name, one.tags) for one in first] == [("part 0", ["both"]), ("part 1", ["both"])]
    assert all(lab.client.wait(one.id, timeout=120).state == "done" for one in first)
    again = lab.client.submit_study(study())
    assert all(one.state == "done" and one.progress.reused == one.progress.total for one in again)
    listed = lab.client.experiments(tag="both").experiments
    assert {one.id for one in first + again} <= {one.id for one in listed}
    assert [one.id for one in study().newest(listed)] == [one.id for one in again]
    assert lab.client.experiments(tag="bot").total == 0


@pytest.mark.parametrize(
    ("second", "pointer", "says"),
    [
        ({"width": -1}, "/experiments/1/spec/width", "from 2 to 64"),
        ({"kind": "astrology"}, "/experiments/1/spec/kind", "linear_model"),
        (
            {"kind": "gaussian_perturbation", "suite": "nowhere"},
            "/experiments/1/spec/suite",
            "no suite 'nowhere'",
        ),
    ],
)
def test_a_study_with_one_bad_experiment_submits_none_and_names_it(
    lab: Lab, second: Any, pointer: str, says: str
) -> None:
    before = lab.client.experiments(limit=1).total
    spec = second if "kind" in second else {**SMALL, **second}
    sent = {
        "name": "bad",
        "experiments": [{"name": "good", "spec": SMALL}, {"name": "bad", "spec": spec}],
    }
    with pytest.raises(RequestRejectedError) as refused:
        lab.client.submit_study(Study.model_validate(sent))
    [problem] = refused.value.problem.errors
    assert (problem.pointer, says in problem.detail) == (pointer, True), problem
    assert lab.client.experiments(limit=1).total == before


def test_the_studies_of_the_package_are_served_and_can_be_planned_or_say_what_is_missing(
    lab: Lab,
) -> None:
    assert (
        [one.name for one in lab.client.studies()]
        == list(builtin())
        == ["interventions", "springer2025-pythia70m", "tiny"]
    )
    assert [lab.client.plan(one.spec).num_points for one in builtin()["tiny"].experiments] == [
        650,
        60,
        310,
        330,
    ]
    with pytest.raises(
        RequestRejectedError, match="ucurve suites add pythia-70m --hub EleutherAI/pythia-70m"
    ):
        lab.client.submit_study(builtin()["springer2025-pythia70m"])


def test_the_second_experiment_of_the_tiny_study_is_part_of_the_third(lab: Lab) -> None:
    [_, two, three, _] = [parse(one.spec) for one in builtin()["tiny"].experiments]
    assert set(two.rates) < set(three.rates)  # type: ignore[attr-defined]
    assert set(three.seeds) == set(two.seeds)  # type: ignore[attr-defined]


def test_every_experiment_of_a_study_needs_a_name_of_its_own() -> None:
    with pytest.raises(ValueError, match="name of its own"):
        Study.model_validate(
            {
                "name": "both",
                "experiments": [{"name": "a", "spec": SMALL}, {"name": "a", "spec": SMALL}],
            }
        )


# ---- more draws


def test_an_extended_experiment_has_more_draws_and_measures_only_what_is_new(lab: Lab) -> None:
    spec = {
        "kind": "gaussian_perturbation",
        "gammas": [0.23],
        "draws": 2,
        "scale": "init_std",
        "checkpoints": ["seed0-step437-tokens894976"],
    }
    first = lab.client.submit(spec, name="noise", tags=["x"], notes="why")
    assert lab.client.wait(first.id, timeout=120).progress.done == 3
    more = lab.client.extend(first.id, 3)
    assert (more.name, more.tags, more.spec["draws"]) == ("noise", ["x"], 5)
    assert more.notes == f"why\n\nExperiment {first.id} with 3 more draws."
    assert (more.progress.total, more.progress.reused) == (6, 3)
    with pytest.raises(RequestRejectedError, match="cannot have 999 more draws"):
        lab.client.extend(first.id, 999)


def test_an_experiment_that_repeats_nothing_cannot_be_extended(lab: Lab) -> None:
    made = lab.client.submit({"kind": "pretraining", "suite": "never-made", "steps": [200]})
    lab.client.cancel(made.id)
    with pytest.raises(RequestRejectedError, match="has no draws or seeds to add"):
        lab.client.extend(made.id, 1)


def test_seeds_are_added_where_a_list_names_them() -> None:
    extended = parse({"kind": "fine_tuning", "seeds": [0, 2]}).with_more_draws(3)
    assert extended is not None
    assert extended.model_dump()["seeds"] == [0, 2, 1, 3, 4]
    assert extended.model_dump()["looks"] == 2, "a further look is held to a smaller p"


def test_the_command_line_asks_for_the_fewest_draws_that_settle_something(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    first = lab.client.submit(
        {**SMALL, "seed": 7, "fixed_gammas": [0.03], "relative_gammas": [], "draws": 3}
    )
    lab.client.wait(first.id, timeout=120)
    needed = {num for verdict in lab.client.verdicts(first.id) if (num := more_draws(verdict))}
    assert needed, "the test needs an open verdict"
    assert main(["--url", lab.url, "extend", str(first.id)]) == 0
    seeds = "1 more seed" if min(needed) == 1 else f"{min(needed)} more seeds"
    assert f"{seeds} could resolve" in capsys.readouterr().out
    made = lab.client.experiments(limit=1).experiments[0]
    assert made.spec["draws"] == 3 + min(needed)


def test_as_many_draws_as_an_open_verdict_asks_for_settle_it_in_most_cases() -> None:
    generator = np.random.default_rng(1)
    truth, settled, asked = np.array([1.0, 1.0, 1.02, 1.04, 1.06]), 0, 0
    for _ in range(60):
        losses = truth[:, None] + generator.normal(0, 0.04, (5, 60))

        def verdict(num: int, losses: Any = losses) -> Verdict:
            base = np.full((5, 1), 0.5)
            condition = Condition("c", 2.0 ** np.arange(5), losses[:, :num], base)
            return condition_verdicts.progressive_sensitivity([condition])[0]

        more = more_draws(verdict(4))
        if more and 4 + more <= 60:
            asked += 1
            settled += verdict(4 + more).answer != "undetermined"
    assert asked > 20
    assert settled / asked > 0.6


# ---- inflection points


def minimum(low: float, high: float) -> ConditionMinimum:
    return ConditionMinimum(
        change="noise",
        condition="gamma 1",
        run="pre-training seed 0",
        answer="yes",
        tokens=math.sqrt(max(low, 1) * high),
        low=low,
        high=high,
        step=2.0,
    )


@pytest.mark.parametrize(
    ("noise", "tuning", "answer"),
    [
        ([(2e6, 4e6)], [(2e6, 4e6)], "yes"),
        ([(2e6, 2e6)], [(4e6, 4e6)], "no"),
        (
            [(2e6, 4e6)],
            [(4e6, 8e6)],
            "undetermined",
        ),  # they meet, but lie too far apart to be called the same
        ([(0, 4e6)], [(2e6, 4e6)], "undetermined"),  # one may lie before the first checkpoint
        ([(1e6, 1e6), (4e6, 4e6)], [(4e6, 4e6)], "undetermined"),  # one size of change agrees
        ([(2e6, 4e6)], [], "undetermined"),
    ],
)
def test_inflection_points_agree_differ_or_stay_open(
    noise: list[Any], tuning: list[Any], answer: str
) -> None:
    outcome, reason = compare(
        {"noise": [minimum(*ends) for ends in noise], "tuning": [minimum(*ends) for ends in tuning]}
    )
    assert outcome == answer, reason


def simulated(truths: Sequence[Sequence[float]], generator: np.random.Generator) -> str:
    """Judge two changes with these mean losses over 5 checkpoints, three sizes each, 6 draws."""
    parts = []
    for kind, truth in zip(("gaussian_perturbation", "fine_tuning"), truths, strict=True):
        x, base = (
            1e6 * 2.0 ** np.arange(5),
            np.linspace(1.0, 0.9, 5)[:, None] + generator.normal(0, 1e-3, (5, 16)),
        )
        losses = [np.array(truth)[:, None] + generator.normal(0, 0.02, (5, 6)) for _ in range(3)]
        family = [
            Condition(f"size {i}, pre-training seed 0", x, one, base)
            for i, one in enumerate(losses)
        ]
        told = condition_verdicts.inflection_point(
            family, condition_verdicts.catastrophic_overtraining(family)
        )
        parts.append(StudyExperiment(kind, parse({"kind": kind}), pd.DataFrame(), told))
    return inflection_points.verdicts(parts)[0].answer


def test_equal_minima_rarely_differ_and_distant_ones_never_agree() -> None:
    generator, early, middle = (
        np.random.default_rng(0),
        [1.5, 1.3, 1.45, 1.6, 1.75],
        [1.6, 1.5, 1.4, 1.3, 1.5],
    )
    same = [simulated((early, early), generator) for _ in range(40)]
    apart = [simulated((early, middle), generator) for _ in range(40)]
    flat = [
        simulated(([1.4, 1.31, 1.3, 1.31, 1.4],) * 2, generator) for _ in range(40)
    ]  # the bottom is hard to tell
    assert same.count("yes") > 30
    assert same.count("no") + flat.count("no") <= 4
    assert (apart.count("no"), apart.count("yes")) >= (30, 0)
    assert "yes" not in apart


def test_minima_that_two_experiments_share_count_once_with_the_more_draws() -> None:
    def verdict(num_draws: int, high: float) -> Verdict:
        return Verdict(
            claim="inflection point",
            scope="learning rate 0.1, full, pre-training seed 1",
            sentence="",
            answer="yes",
            effect=1e6,
            effect_name="minimum, tokens",
            interval=(1e6, high),
            num_draws=num_draws,
            x=[1e6, 2e6],
            minimum=Minimum(x=1e6, low=1e6, high=high),
        )

    spec = parse({"kind": "fine_tuning"})
    experiments = [
        StudyExperiment("II", spec, pd.DataFrame(), [verdict(5, 2e6)]),
        StudyExperiment("III", spec, pd.DataFrame(), [verdict(3, 8e6)]),
    ]
    [shared] = inflection_points.minima(experiments)
    assert (shared.condition, shared.run, shared.high) == (
        "learning rate 0.1, full",
        "pre-training seed 1",
        2e6,
    )


# ---- the other verdicts


def test_growth_is_a_yes_only_where_every_condition_grows() -> None:
    def told(*ratios: tuple[float, float, float]) -> Verdict:
        verdicts = [
            Verdict(
                claim="growth of sensitivity",
                scope=f"gamma {i}",
                answer="yes",
                sentence="",
                effect=at,
                interval=(low, high),
            )
            for i, (at, low, high) in enumerate(ratios)
        ]
        return study_verdicts.growth(
            [StudyExperiment("I", parse(SMALL), pd.DataFrame(), verdicts)]
        )[0]

    assert told((3, 2, 4), (5, 4, 8)).answer == "yes"
    assert told((3, 2, 4), (1.1, 0.9, 1.3)).answer == "undetermined"
    assert told((0.5, 0.4, 0.6)).answer == "no"
    assert (told((3, 2, 4), (5, 4, 8), (4, 3, 5)).effect, told((3, 2, 4), (5, 4, 8)).interval) == (
        4,
        (2, 8),
    )


def noisy(
    base_factor: float, change_factor: float, suite: str = "pythia-70m"
) -> tuple[Any, pd.DataFrame]:
    """A spec and Pythia-70M's published perplexities under noise, each off by a factor."""
    given = replication.builtin("pythia-70m", "wikitext-2")
    bases = {one.tokens: one.value * base_factor for one in given if not one.labels}
    changes = {one.tokens: one.value * change_factor for one in given if "gamma" in one.labels}
    rows: list[dict[str, Any]] = []
    for tokens, base in bases.items():
        common = {
            "suite": suite,
            "revision": f"at {tokens}",
            "tokens": tokens,
            "replicate": 0,
            "state": "done",
            "series": {},
        }
        common |= {"measurement": 1, "group": "all", "phase": None}
        rows.append(
            {**common, "gamma": 0.0, "scale": None, "draw": None, "nll_mean": math.log(base)}
        )
        after = [math.log(base + changes.get(tokens, 1.0) * (1 + 0.01 * (i - 1))) for i in range(3)]
        rows += [
            {**common, "gamma": 0.04, "scale": "current_std", "draw": i, "nll_mean": loss}
            for i, loss in enumerate(after)
        ]
    spec = parse(
        {"kind": "gaussian_perturbation", "suite": suite, "gammas": [0.04], "scale": "current_std"}
    )
    return spec, pd.DataFrame(rows)


def test_published_numbers_under_noise_are_compared_only_where_the_base_agrees() -> None:
    answers = {}
    for name, factors in {
        "equal": (1.0, 1.0),
        "off": (1.0, 1.5),
        "between": (1.0, 1.2),
        "protocol": (1.06, 1.0),
    }.items():
        spec, table = noisy(*factors)
        [verdict] = [
            verdict for verdict in spec.verdicts(table) if verdict.claim == replication.CLAIM
        ]
        answers[name] = (verdict.answer, {outcome for *_, outcome in verdict.evidence["outcomes"]})
        assert (
            study_verdicts.verdicts([StudyExperiment("I", spec, table, [verdict])])[0] == verdict
        ), "a study passes it on"
    assert answers == {
        "equal": ("yes", {"reproduced"}),
        "off": ("no", {"not reproduced"}),
        "between": ("undetermined", {"undetermined"}),
        "protocol": ("undetermined", {"not comparable"}),
    }
    spec, table = noisy(1.0, 1.0)
    figures = spec.figures(table)
    marks = [
        row for row in figures["perplexity_change"].datasets["curves"] if row["what"] == "reference"
    ]
    assert [(row["gamma"], row["scale"], row["y"]) for row in marks] == [
        (0.04, "current_std", 2.46), (0.04, "current_std", 193.86),
    ]  # fmt: skip
    assert len(figures["published"].datasets["cells"]) == 5 + 2 + 5
    elsewhere, table = noisy(1.0, 1.0, "tiny")
    assert replication.CLAIM not in {verdict.claim for verdict in elsewhere.verdicts(table)}


def test_the_server_judges_experiments_together_as_the_pure_function_does(lab: Lab) -> None:
    ids = [
        lab.client.submit(SMALL, name="one").id,
        lab.client.submit({**SMALL, "seed": 1}, name="two").id,
    ]
    for id in ids:
        lab.client.wait(id, timeout=120)
    parts = [
        StudyExperiment(
            n, parse(lab.client.experiment(i).spec), lab.client.table(i), lab.client.verdicts(i)
        )
        for n, i in zip(("one", "two"), ids, strict=True)
    ]
    told = lab.client.study_verdicts(ids)
    assert [(v.claim, v.answer, v.sentence) for v in told] == [
        (v.claim, v.answer, v.sentence) for v in study_verdicts.verdicts(parts)
    ]
    assert {"progressive sensitivity", "catastrophic overtraining", "growth of sensitivity"} <= {
        v.claim for v in told
    }
    assert (
        httpx.get(f"{lab.url}/v1/studies/verdicts", params={"experiment": 987654}).status_code
        == 404
    )
