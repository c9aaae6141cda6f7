"""Public naming schemes of checkpoints: what each name says, alone and beside its siblings."""

from __future__ import annotations

import pytest

from ucurve.registry.names.revisions import Revision, parse_revision
from ucurve.registry.names.suite_names import read_names
from ucurve.registry.names.token_batches import BatchesError, parse_batches, tokens_at
from ucurve.registry.names.training_phases import phase_order

MILLION, BILLION = 10**6, 10**9


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Words joined to numbers in other ways, numbers in thousands
        ("step-10k", Revision(10_000)),
        ("step100k", Revision(100_000)),
        ("100k-steps", Revision(100_000)),
        ("step=1000", Revision(1000)),
        ("iteration=1000", Revision(1000)),
        ("model_step=500", Revision(500)),
        ("global_step1000", Revision(1000)),
        ("checkpoint-500", Revision(500)),
        ("ep1-ba4500", Revision(4500)),
        ("ep0-ba1000-rank0", Revision(1000)),
        ("epoch=0-step=1000", Revision(1000)),
        ("epoch=3-step=25000.ckpt", Revision(25_000)),
        ("step737000-unsharded", Revision(737_000)),
        ("checkpoints/step_1000", Revision(1000)),
        ("multiberts-seed_0-step_20k", Revision(20_000, replicate=0)),
        # Tokens
        ("step-1431k-3T", Revision(1_431_000, 3000 * BILLION)),
        ("intermediate-step-50k-105b", Revision(50_000, 105 * BILLION)),
        ("TinyLlama-1.1B-intermediate-step-240k-503b", Revision(240_000, 503 * BILLION)),
        ("train_02200B", Revision(tokens=2200 * BILLION)),
        ("train_00220B", Revision(tokens=220 * BILLION)),
        ("open_llama_7b_400bt_preview", Revision(tokens=400 * BILLION)),
        ("stage1-step010000-tokens21B", Revision(10_000, 21 * BILLION, 1)),
        ("step50000-tokens210B", Revision(50_000, 210 * BILLION)),
        # Words of text are no tokens
        ("chck_10M", Revision(words=10 * MILLION)),
        ("chck_100K", Revision(words=100_000)),
        ("chck_1000M", Revision(words=BILLION)),
        ("100M_words", Revision(words=100 * MILLION)),
        # Stages by another word
        ("phase1_checkpoint_055500", Revision(55_500, stage=1)),
        ("CrystalCoder_phase2_checkpoint_018000", Revision(18_000, stage=2)),
        ("mdl_phase1_step_1500", Revision(1500, stage=1)),
        # Seeds that are words
        ("step1250-seed-default", Revision(1250, replicate_name="default")),
        ("step5000-seed-small-aux-2", Revision(5000, replicate_name="small-aux-2")),
        ("seed-large-aux-3-step5000", Revision(5000, replicate_name="large-aux-3")),
        # Alone they say nothing
        ("1000", Revision()),
        ("10B", Revision()),
        ("base_0720000", Revision()),
        ("checkpoint-10M", Revision()),  # steps, words or tokens
        ("epoch-3", Revision()),
        ("step99999999999999999999", Revision()),  # no count of steps is that large
        ("9f3c2a1", Revision()),
        ("2024-05-01", Revision()),
        ("v2", Revision()),
    ],
)
def test_a_name_of_a_public_suite_is_read(name: str, expected: Revision) -> None:
    assert parse_revision(name) == expected


@pytest.mark.parametrize(
    ("name", "step", "phase"),
    [
        ("lc-4k-to-32k-step-4000", 4000, "lc-4k-to-32k"),
        ("lc-32k-to-64k-step-20000", 20_000, "lc-32k-to-64k"),
        ("extension_step0000250", 250, "extension"),
        ("anneal-step1000", 1000, "anneal"),
        ("annealing_step0001220", 1220, "annealing"),
        ("decay-step-500", 500, "decay"),
        ("cooldown-step1000", 1000, "cooldown"),
        ("step_5000_cooldown_5500", 5500, "cooldown-from-5000"),
        ("longcontext-step2385", 2385, "longcontext"),
        ("sft-step100", 100, "sft"),
        ("mid_1_0010000", 10_000, "mid_1"),
        ("it-mid-training", None, "it-mid-training"),
        ("dpo_checkpoint-300", 300, "dpo"),
        ("anneal-step100-tokens1B", 100, "anneal"),  # tokens of the phase
    ],
)
def test_a_phase_after_pre_training_is_told_by_its_name(
    name: str, step: int | None, phase: str
) -> None:
    revision = parse_revision(name)
    assert (revision.step, revision.training_phase, revision.tokens) == (step, phase, None)


def test_words_that_only_look_like_a_phase_are_none() -> None:
    for name in ("weight-decay-step1000", "clockwork-step1000", "schooldays-step1000", "step5-it"):
        assert parse_revision(name).training_phase is None, name


def test_a_phase_is_never_placed_among_pre_training_by_its_number() -> None:
    names = ["stage1-step-3440000", "stage3-step-4720000", "lc-4k-to-32k-step-4000"]
    smollm = read_names(names, 2_359_296).positions
    assert smollm["stage3-step-4720000"].tokens == 4_720_000 * 2_359_296
    assert smollm["lc-4k-to-32k-step-4000"].tokens is None
    lucie = read_names(["step0753851", "extension_step0000250"], 4_194_304).positions
    assert lucie["step0753851"].tokens == 753_851 * 4_194_304
    assert lucie["extension_step0000250"].tokens is None
    assert lucie["extension_step0000250"].step == 250  # it orders the phase
    counted = read_names(["step1000-tokens4B", "anneal-step100-tokens1B"]).positions
    assert counted["anneal-step100-tokens1B"].tokens is None  # the phase's own count


def test_phases_stand_in_their_usual_order() -> None:
    phases = ["dpo", "sft", "lc-32k-to-64k", "lc-4k-to-32k", "mid_2", "mid_1", "tulu", None]
    assert sorted(phases, key=phase_order) == [
        None, "mid_1", "mid_2", "lc-4k-to-32k", "lc-32k-to-64k", "sft", "dpo", "tulu",
    ]  # fmt: skip


def test_a_minority_with_an_unknown_word_is_kept_apart_and_said() -> None:
    understood = read_names(["step1000", "step2000", "step3000", "tulu-step500"], 10)
    position = understood.positions["tulu-step500"]
    assert (position.tokens, position.training_phase) == (None, "tulu")
    assert any("tulu" in question for question in understood.questions)
    both = read_names(["a-run-step1", "a-run-step2", "b-walk-step1", "b-walk-step2"], 10)
    assert {p.tokens for p in both.positions.values()} == {10, 20}
    assert any("run" in q and "walk" in q for q in both.questions)
    plain = read_names(["my-model-step1000", "my-model-step2000"], 10)
    assert plain.questions == []  # every name has it


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["0", "1000", "2000", "main"], {"0": 0, "1000": 1000, "2000": 2000}),
        (["base_0020000", "base_0720000"], {"base_0020000": 20_000, "base_0720000": 720_000}),
        (["1990", "2000", "2010"], {}),  # years
        (["20240101", "20240215"], {}),  # dates
        (["1", "2", "3"], {}),  # versions, epochs
        (["v1", "v2", "v3"], {}),
        (["9f3c2a1", "1234567"], {}),  # hashes
        (["1000"], {}),  # has no sibling
        (["step100", "step200", "3000"], {"step100": 100, "step200": 200}),
    ],
)  # fmt: skip
def test_numbers_without_a_word_are_steps_where_most_names_look_so(
    names: list[str], steps: dict[str, int]
) -> None:
    positions = read_names(names).positions
    assert {n: p.step for n, p in positions.items() if p.step is not None} == steps


def test_sizes_without_a_word_are_tokens_where_most_names_look_so() -> None:
    poro = read_names(["main", "10B", "531B", "1.2T", "1000B"])
    assert {name: position.tokens for name, position in poro.positions.items()} == {
        "10B": 10 * BILLION,
        "531B": 531 * BILLION,
        "1000B": 1000 * BILLION,
        "1.2T": 1200 * BILLION,
    }
    assert any("read as tokens" in question for question in poro.questions)
    alone = read_names(["7b", "step1000", "step2000"])
    assert "7b" in alone.left_out
    assert any("7b" in question for question in alone.questions)
    unclear = read_names(["10M", "20M", "100M"])
    assert {position.tokens for position in unclear.positions.values()} == {None}
    assert any("words or tokens" in question for question in unclear.questions)


def test_seeds_in_words_are_replicates_and_keep_their_numbers() -> None:
    names = [f"step1250-seed-{seed}" for seed in ("small-aux-3", "default", "small-aux-2")]
    positions = read_names(names).positions
    assert {p.replicate_name: p.replicate for p in positions.values()} == {
        "default": 0,
        "small-aux-2": 1,
        "small-aux-3": 2,
    }
    known = {p.replicate_name or "": p.replicate for p in positions.values()}
    grown = read_names([*names, "step1250-seed-small-aux-1"], seeds=known).positions
    assert {p.replicate_name: p.replicate for p in grown.values()} == {**known, "small-aux-1": 3}
    mixed = read_names(["seed0-step5", "seed-default-step5"]).positions
    assert {name: p.replicate for name, p in mixed.items()} == {
        "seed0-step5": 0,
        "seed-default-step5": 1,
    }


def test_every_reading_says_which_part_of_the_name_it_is_from() -> None:
    understood = read_names(["intermediate-step-50k-105b", "epoch-3"])
    assert understood.sources == {"intermediate-step-50k-105b": "step: step-50k-105b"}
    assert "epoch" in understood.left_out["epoch-3"]


def test_counts_that_the_database_cannot_hold_are_left_open() -> None:
    (placed,) = read_names(["step900000000000000000"], 10**12).positions.values()
    assert (placed.step, placed.tokens) == (9 * 10**17, None)


def test_tokens_per_step_may_change_within_a_run() -> None:
    batches = parse_batches("0:2097152, 1000:4194304")
    assert [tokens_at(batches, step) for step in (0, 999, 1000, 1001)] == [
        0,
        999 * 2_097_152,
        1000 * 2_097_152,
        1000 * 2_097_152 + 4_194_304,
    ]
    assert tokens_at(parse_batches(100), 7) == 700
    placed = read_names(["step1000", "step2000"], "0:10,1000:20").positions
    assert [position.tokens for position in placed.values()] == [10_000, 30_000]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1000:5", "from step 0 on"),
        ("0:5,1000=6", "range 2, '1000=6'"),
        ("0:5,100:6,100:7", "range 3 starts at step 100"),
        ("0:0", "range 1 has 0 tokens"),
        ("0:5,", "range 2"),
        ("two", "as a number, or as ranges"),
    ],
)
def test_ranges_that_cannot_be_read_are_named(text: str, message: str) -> None:
    with pytest.raises(BatchesError, match=message):
        parse_batches(text)
