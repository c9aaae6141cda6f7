"""The false-discovery statement beside the single verdicts on one claim."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from ucurve.analysis.false_discovery import RATE, q_values, statement
from ucurve.analysis.verdict_order import by_claim
from ucurve.import_export.verdict_html import claims_html
from ucurve.schemas.results import Answer, Verdict, VerdictRef


def single(answer: Answer, p_value: float | None, scope: str = "", claim: str = "u") -> Verdict:
    return Verdict(
        claim=claim, scope=scope, answer=answer, sentence="So it is.", p_value=p_value, test="t"
    )


def test_q_values_are_those_of_benjamini_and_yekutieli() -> None:
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4
    p_values = [0.001, 0.02, 0.01, 0.5]
    expected = [0.001 * 4, 0.02 * 4 / 3, 0.01 * 4 / 2, 0.5]
    assert q_values(p_values) == pytest.approx([min(1, harmonic * q) for q in expected])
    assert q_values(p_values) == pytest.approx(false_discovery_control(p_values, method="by"))


def test_the_statement_counts_discoveries_and_names_what_is_none() -> None:
    verdicts = [
        single("yes", 0.0001, "seed 0"),
        single("yes", 0.028, "seed 1"),
        single("undetermined", 0.3, "seed 2"),
        single("no", 0.001, "seed 3"),  # the p-value of the opposite
    ]
    text = statement(verdicts)
    assert text.startswith("Of 4 tests on this claim, yes: 2; discoveries at a")
    assert "over all of them: 1 (" in text
    assert text.endswith("not seed 1.")
    assert "Benjamini-Yekutieli" in text


def test_summaries_and_verdicts_without_a_test_are_no_part_of_the_family() -> None:
    summary = single("yes", 0.01).model_copy(
        update={"summarizes": [VerdictRef(scope="a", answer="yes", p_value=0.01)]}
    )
    assert statement([single("yes", 0.01), summary, single("yes", None)]) == ""
    assert "yes: none" in statement([single("no", 0.9), single("undetermined", 0.5)])


def test_among_true_nulls_a_discovery_is_rarer_than_the_rate_however_tests_depend() -> None:
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(400):
        shared, own = rng.standard_normal(), rng.standard_normal(8)
        z = np.sqrt(0.7) * shared + np.sqrt(0.3) * own
        wrong += min(q_values([float(np.mean(rng.standard_normal(2000) > v)) for v in z])) <= RATE
    assert wrong / 400 <= RATE


def test_page_and_report_have_the_statement_of_every_claim() -> None:
    verdicts = [single("yes", 0.001, "seed 0"), single("yes", 0.0001, "seed 1")]
    [claim] = by_claim([*verdicts])
    assert claim.discoveries == statement(verdicts)
    assert "over all of them: 2" in claims_html(verdicts)
