"""Numbers for people: every wording with its edge values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from math import inf, nan

import pytest

from ucurve import formatting


@pytest.mark.parametrize(
    ("numbers", "text"), [([2.1e9], "2.1B"), ([8.39e9, 0, 2.1e9], "0 to 8.39B"), ([5, 5], "5")]
)
def test_a_span_of_tokens_is_not_said_twice(numbers: list[float], text: str) -> None:
    assert formatting.token_span(numbers) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (nan, "NaN"),
        (inf, "∞"),
        (-inf, "−∞"),
        (0, "0"),
        (999, "999"),
        (1e5, "100,000"),
        (1e12, "1,000,000,000,000"),
        (1e15, "1e+15"),
        (-1234, "-1,234"),
        (0.031249, "0.03125"),
        (-0.5, "-0.5"),
        (1.23456e-7, "1.235e-07"),
    ],
)
def test_numbers_have_four_figures_and_whole_numbers_all(value: float | None, text: str) -> None:
    assert formatting.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (nan, "NaN"), (inf, "∞"), (0.1, "0.1"), (5e-05, "5e-05"), (1 / 3, repr(1 / 3))],
)
def test_exact_numbers_read_back_as_the_same_number(value: float | None, text: str) -> None:
    assert formatting.exact(value) == text


@pytest.mark.parametrize(
    ("num", "text"),
    [
        (None, "–"),
        (nan, "NaN"),
        (inf, "∞"),
        (-inf, "−∞"),
        (0, "0"),
        (999, "999"),
        (65_536, "65,536"),
        (99_999, "99,999"),
        (1e5, "0.1M"),
        (917_504, "0.918M"),
        (999_999, "1M"),
        (14_336_000, "14.3M"),
        (-14_336_000, "-14.3M"),
        (999_499_999, "999M"),
        (999_999_999, "1B"),
        (2_097_152_000, "2.1B"),
        (1e12, "1T"),
        (15e12, "15T"),
        (1e15, "1,000T"),
        (1.5e15, "1,500T"),
    ],
)
def test_tokens_have_three_figures_and_a_unit(num: float | None, text: str) -> None:
    assert formatting.tokens(num) == text


def test_compact_numbers_have_as_many_figures_as_requested() -> None:
    assert formatting.compact(14_336_000, 4) == "14.34M"
    assert formatting.compact(0.031249, 4) == "0.03125"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (nan, "unknown"),
        (inf, "unknown"),
        (-5, "under 1 s"),
        (0, "under 1 s"),
        (0.999, "under 1 s"),
        (1, "1 s"),
        (59.9, "60 s"),
        (99.4, "99 s"),
        (99.9, "2 min"),
        (999, "17 min"),
        (3600, "60 min"),
        (5399, "1 h 30 min"),
        (7200, "2 h"),
        (7800, "2 h 10 min"),
        (11 * 3600, "11 h"),
        (35.99 * 3600, "36 h"),
        (1e5, "28 h"),
        (36 * 3600, "2 d"),
        (1e12, "11574074 d"),
    ],
)
def test_durations_have_two_figures_or_two_units(seconds: float | None, text: str) -> None:
    assert formatting.duration(seconds) == text


def test_estimates_say_about() -> None:
    assert formatting.roughly(12) == "about 12 s"
    assert formatting.roughly(0.2) == "under 1 s"
    assert formatting.roughly(None) == "unknown"


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (None, "unknown"),
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (999_999, "1 MB"),
        (1e5, "100 kB"),
        (281_234_567, "281 MB"),
        (1_234_567_890, "1.23 GB"),
        (1e12, "1 TB"),
        (2e15, "2,000 TB"),
    ],
)
def test_sizes_have_decimal_units(num_bytes: float | None, text: str) -> None:
    assert formatting.file_size(num_bytes) == text


def test_counts_have_thousands_separators_and_a_plural() -> None:
    assert formatting.count(1130) == "1,130"
    assert [formatting.counted(num, "point") for num in (0, 1, 1130)] == [
        "0 points",
        "1 point",
        "1,130 points",
    ]


def test_small_p_values_are_bounded() -> None:
    assert formatting.p_value(0.0123) == "p = 0.012"
    assert formatting.p_value(1e-9) == "p < 0.001"


def test_dates_are_in_utc() -> None:
    moment = datetime(2026, 2, 3, 1, 5, tzinfo=timezone(timedelta(hours=2)))
    assert formatting.date(moment) == "2 February 2026"
    assert formatting.date_time(moment) == "2 February 2026, 23:05 UTC"
    now = datetime(2026, 2, 2, 23, 5, tzinfo=UTC)
    assert formatting.ago(moment, now) == "just now"
    assert formatting.ago(moment, now + timedelta(minutes=3)) == "3 min ago"


@dataclass
class Plan:
    num_points: int = 0
    num_existing: int = 0
    num_running: int = 0
    num_new: int = 0
    num_again: int = 0
    num_workers: int = 2
    estimated_seconds: float | None = None


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (
            Plan(504, num_existing=312, num_new=192, estimated_seconds=6000),
            "312 of 504 cached, 192 new, about 1 h 40 min on 2 workers",
        ),
        (Plan(3, num_existing=3), "3 of 3 cached: results are available immediately"),
        (
            Plan(54, num_existing=16, num_running=38),
            "16 of 54 cached, 38 shared with a running experiment",
        ),
        (Plan(2, num_again=2), "2 to re-measure and compare"),
    ],
)
def test_a_plan_summary_says_what_is_cached_shared_and_new(plan: Plan, text: str) -> None:
    assert formatting.plan_summary(plan) == text


def test_details_of_a_change_leave_out_what_is_empty_and_keep_what_is_off() -> None:
    details = {"name": "", "tags": ["a", "b"], "priority": 0, "blocked": False, "webhook": None}
    assert formatting.audit_details(details) == "tags a b, priority 0, blocked no"
