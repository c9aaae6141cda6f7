"""The order of verdicts: few are all listed; of many, combined ones come first."""

from __future__ import annotations

from typing import Any

import pytest

from ucurve.analysis.verdict_order import by_claim, standing
from ucurve.spec import Verdict


def verdict(claim: str, answer: str, scope: str, overall: bool = False, test: str = "t") -> Verdict:
    summarizes = [{"scope": "gamma 1", "answer": answer}] if overall else []
    return Verdict.model_validate(
        {
            "claim": claim,
            "scope": scope,
            "answer": answer,
            "sentence": "So it is.",
            "test": test,
            "summarizes": summarizes,
        }
    )


def test_up_to_four_answers_to_a_claim_are_all_shown() -> None:
    [claim] = by_claim([verdict("u", "yes", f"gamma {gamma}") for gamma in range(4)])
    assert (len(claim.summaries), len(claim.details)) == (4, 0)


def test_of_many_answers_the_overall_ones_are_shown_and_the_others_counted() -> None:
    single = [verdict("u", "no" if gamma == 2 else "yes", f"gamma {gamma}") for gamma in range(5)]
    [claim] = by_claim([*single, verdict("u", "yes", "all", overall=True)])
    assert [one.scope for one in claim.summaries] == ["all"]
    assert claim.details_title == "Per-setting results (5): 4 yes, 1 no"


def test_claims_keep_their_order_and_say_each_test_once() -> None:
    found = by_claim(
        [verdict("b", "yes", "1"), verdict("a", "no", "1", test="u"), verdict("b", "yes", "2")]
    )
    assert [(claim.name, claim.tests) for claim in found] == [("b", ["t"]), ("a", ["u"])]


def undetermined(**fields: Any) -> Verdict:
    return Verdict.model_validate(
        {"claim": "u", "answer": "undetermined", "sentence": "Open.", **fields}
    )


def summarizing(**answers: str) -> list[dict[str, str]]:
    return [{"scope": f"under {name}", "answer": answer} for name, answer in answers.items()]


@pytest.mark.parametrize(
    ("verdict", "badge"),
    [
        (undetermined(more_draws=1, draw_name="noise seeds"), "needs 1 more noise seed"),
        (undetermined(more_draws=12, draw_name="seeds"), "needs 12 more seeds"),
        (undetermined(), "not tested"),
        (undetermined(num_nonfinite=1), "undetermined"),
        (undetermined(effect=0.1, p_value=0.4), "undetermined"),
        (
            undetermined(summarizes=summarizing(current_std="yes", init_std="no")),
            "depends on noise scale",
        ),
        (
            undetermined(summarizes=summarizing(current_std="yes", init_std="undetermined")),
            "undetermined",
        ),
    ],
)
def test_the_badge_of_an_undetermined_verdict_says_what_it_lacks(
    verdict: Verdict, badge: str
) -> None:
    assert standing(verdict) == badge
    settled = verdict.model_copy(update={"answer": "no"})
    assert standing(settled) == "no"


def test_a_claim_needs_as_many_seeds_as_settle_all_its_settings() -> None:
    overall = undetermined(summarizes=summarizing(init_std="undetermined"))
    singles = [undetermined(more_draws=num, draw_name="seeds", effect=0.1) for num in (3, 8)]
    [claim] = by_claim([overall, *singles])
    assert claim.standing == "needs 8 more seeds"
    [claim] = by_claim([overall, *singles, undetermined(effect=0.1, p_value=0.2)])
    assert claim.standing == "undetermined", (
        "one setting that no number of seeds is known to settle"
    )
    [claim] = by_claim([overall, undetermined(), undetermined()])
    assert claim.standing == "not tested"
