"""Folders that hypothesis draws: registration and the loader never break their promise."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from folder_cases import Case, cases
from fuzz_folders import judge
from hypothesis import HealthCheck, given, settings

BUDGET = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@BUDGET
@given(case=cases())
def test_what_registers_and_is_tried_loads_and_runs(case: Case) -> None:
    with tempfile.TemporaryDirectory() as parent, pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_MODELS", parent)
        assert judge(case, Path(parent)).failed is None
