"""Requests that schemathesis generates from the OpenAPI document, with a key of each role.

The long form is `python benchmarks/fuzz_api.py`.
"""

from __future__ import annotations

import fuzz_api
import pytest
from conftest import Lab

SECONDS = 10  # of each role, at most


@pytest.fixture(scope="module")
def keys(team: Lab) -> dict[str, str]:
    return fuzz_api.keys(team.client)


@pytest.mark.parametrize("role", ["nobody", "viewer", "submitter", "admin"])
def test_every_answer_is_documented_and_none_is_a_server_error(
    team: Lab, keys: dict[str, str], role: str
) -> None:
    run = fuzz_api.fuzz(team.url, keys[role], 1, SECONDS, seed=1, phases="fuzzing")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Test cases:" in run.stdout
