"""Revision names are parsed, and nothing is invented."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from ucurve.registry import presets
from ucurve.registry.names.revisions import (
    Phase,
    Position,
    Revision,
    infer_positions,
    parse_revision,
)

BILLION = 10**9


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step0", Revision(0)),
        ("step143000", Revision(143000)),
        ("step738020-tokens3094B", Revision(738020, 3094 * BILLION)),
        ("stage1-step928646-tokens3896B", Revision(928646, 3896 * BILLION, 1)),
        ("stage2-ingredient1-step23852-tokens51B", Revision(23852, 51 * BILLION, 2, 1)),
        ("step2627139-tokens15T", Revision(2627139, 15_000 * BILLION)),
        ("ckpt_010", Revision(10)),
        ("step-240000", Revision(240000)),
        ("stage2-step-3480000", Revision(3480000, None, 2)),
        ("iter_0058000", Revision(58000)),
        ("step-001000-2BT", Revision(1000, 2 * BILLION)),
        ("240b_tokens", Revision(None, 240 * BILLION)),
        ("1.5t-tokens", Revision(None, 1500 * BILLION)),
        ("seed0-step437-tokens894976", Revision(437, 894976, None, 0)),
        ("main", Revision()),
        ("v1.0-7b", Revision()),  # a model's size is no count of tokens
        ("refactor-steps", Revision()),
        ("footstep12", Revision()),
    ],
)
def test_a_revision_name_is_read_and_nothing_is_invented(name: str, expected: Revision) -> None:
    assert parse_revision(name) == expected


def positions(
    names: Iterable[str], tokens_per_step: int | None = None, phases: Sequence[Phase] = ()
) -> dict[str, Position]:
    return infer_positions({name: parse_revision(name) for name in names}, tokens_per_step, phases)


def test_pythias_revisions_get_tokens_and_learning_rate_phases_from_the_preset() -> None:
    preset = presets.for_hub("eleutherai/pythia-70m")
    steps = [0, *(2**k for k in range(10)), *range(1000, 144_000, 1000)]
    pythia = positions((f"step{n}" for n in steps), preset.tokens_per_step, preset.phases)
    assert len(pythia) == 154
    assert pythia["step143000"] == Position(143_000, 299_892_736_000, 0, "annealed")
    assert [pythia[name].phase for name in ("step0", "step1000", "step2000", "step142000")] == [
        "warm-up"
    ] * 2 + ["decay"] * 2


def test_a_stage_that_restarts_its_count_continues_after_the_stage_before() -> None:
    preset = presets.for_hub("allenai/OLMo-2-0425-1B")
    olmo = positions(
        [
            "stage1-step10000-tokens21B",
            "stage1-step1907359-tokens4001B",
            "stage2-ingredient3-step23852-tokens51B",
        ],
        preset.tokens_per_step,
        preset.phases,
    )
    assert olmo["stage2-ingredient3-step23852-tokens51B"] == Position(
        step=23852, tokens=4052 * BILLION, replicate=3, phase="annealed"
    )
    assert olmo["stage1-step10000-tokens21B"].tokens == 21 * BILLION
    continued = positions(["stage1-step-3440000", "stage2-step-3480000"], 2_359_296)
    assert continued["stage2-step-3480000"].tokens == 3_480_000 * 2_359_296
    alone = positions(["stage2-step1000-tokens2B"])
    assert alone["stage2-step1000-tokens2B"].tokens is None  # the stage before is unknown


def test_only_positions_in_pre_training_count_as_such() -> None:
    assert parse_revision("stage1").has_position
    assert not parse_revision("seed3").has_position
    assert not parse_revision("main").has_position
