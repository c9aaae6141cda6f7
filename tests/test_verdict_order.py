"""The order of verdicts: few are all listed; of many, combined ones come first."""

from __future__ import annotations

from ucurve.analysis.verdict_order import by_claim
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
