"""The synthetic language: fixed rows, held-out rows that no training run sees, learnable facts."""

import hashlib
import time

import numpy as np

from ucurve.modeling.synthetic_language import (
    CONNECTIVES,
    FACT,
    NEGATED,
    NOUNS,
    TOKEN,
    WORDS,
    SyntheticLanguage,
)

GOLDEN = "3ed53e25c7bbd2da95588639621fa456989152fa04fb757c1cabc606ef9b5498"


def test_rows_never_change() -> None:
    rows = SyntheticLanguage(0).documents(256, seed=3, step=11).rows
    assert hashlib.sha256(rows.astype("<i2").tobytes()).hexdigest() == GOLDEN, (
        "the built-in suites were trained on other rows: raise VERSION and make them again"
    )


def test_rows_depend_on_split_seed_step_and_language_but_not_on_how_many_are_asked_for() -> None:
    asked = {"split": "train", "seed": 0, "step": 5}
    rows = SyntheticLanguage(0).documents(8, **asked).rows
    assert (SyntheticLanguage(0).documents(100, **asked).rows[:8] == rows).all()
    for other in ({"split": "held-out"}, {"seed": 1}, {"step": 6}):
        assert (
            (SyntheticLanguage(0).documents(8, **{**asked, **other}).rows != rows).any(axis=1).all()
        ), other
    assert (SyntheticLanguage(1).documents(8, **asked).rows != rows).any(axis=1).all()


def test_no_training_document_is_in_the_held_out_set() -> None:
    language = SyntheticLanguage(0)
    held_out = {row.tobytes() for row in language.documents(1024, split="held-out").rows}
    assert len(held_out) == 1024
    trained = {
        row.tobytes() for step in range(500) for row in language.documents(32, step=step).rows
    }
    assert not held_out & trained


def test_an_adjective_says_the_documents_polarity_unless_negated() -> None:
    rows, polarity = SyntheticLanguage(0).documents(400, split="held-out")
    told = []
    for row, positive in zip(rows, polarity, strict=True):
        for sentence in " ".join(WORDS[token] for token in row[1:]).split(" . ")[:-1]:
            words = sentence.split()
            if TOKEN["good"] <= TOKEN[words[-1]] <= TOKEN["ashamed"] and not set(words) & set(
                CONNECTIVES
            ):
                assert (TOKEN[words[-1]] <= TOKEN["proud"]) == (
                    bool(positive) != ("not" in words)
                ), sentence
                told.append("not" in words)
    assert abs(np.mean(told) - NEGATED) < 0.05


def test_verbs_agree_with_their_subject_past_an_attractor_and_objects_are_facts() -> None:
    language = SyntheticLanguage(0)
    rows = language.documents(2000, split="held-out").rows.astype(int)
    window = np.lib.stride_tricks.sliding_window_view(rows, 7, axis=1).reshape(-1, 7)
    start = (window[:, 0] == TOKEN["."]) | (window[:, 0] == TOKEN["<bos>"])
    noun = (window >= TOKEN["dog"]) & (window < TOKEN["sees"])
    verb = (window >= TOKEN["sees"]) & (window < TOKEN["red"])
    plain = window[start & noun[:, 2] & verb[:, 3] & noun[:, 5]] - TOKEN["dog"]
    attracted = window[start & noun[:, 2] & noun[:, 5] & verb[:, 6]] - TOKEN["dog"]
    attracted = attracted[attracted[:, 2] % 2 != attracted[:, 5] % 2]
    assert min(len(plain), len(attracted)) > 100
    assert (plain[:, 2] % 2 == plain[:, 3] % 2).all()
    assert (attracted[:, 2] % 2 == attracted[:, 6] % 2).all()
    fact = language.fact[plain[:, 2] // 2, plain[:, 3] // 2 - len(NOUNS)] == plain[:, 5] // 2
    assert abs(fact.mean() - FACT) < 0.03


def test_a_million_tokens_take_less_than_a_second() -> None:
    language = SyntheticLanguage(0)
    began = time.process_time()
    for step in range(512):
        language.documents(32, step=step)
    assert time.process_time() - began < 1.05
