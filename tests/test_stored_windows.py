"""Results that hold losses by window only get the intervals of those that hold them in blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import Lab
from sqlalchemy import text

from db.session import open_session
from ucurve.analysis import text_error
from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import parse
from ucurve.modeling.perplexity import WindowLosses, windows
from ucurve.spec import Result
from worker.outcomes import serialize_result

SHARED_LAB = True

CHECKPOINTS = ["seed0-step437-tokens894976", "seed0-step7000-tokens14336000"]
NOISE = {"kind": "gaussian_perturbation", "checkpoints": CHECKPOINTS, "gammas": [0.17], "draws": 3}
FINE_TUNING = {
    "kind": "fine_tuning",
    "checkpoints": CHECKPOINTS,
    "learning_rates": [0.0021],
    "steps": 4,
    "seeds": [0, 1],
}


def stored(nll: Any, scored: Any) -> dict[str, list[float | None]]:
    """Return the series of a new result, as a worker sends them to the database and back."""
    losses = WindowLosses(np.asarray(nll, dtype=np.float64), np.asarray(scored, dtype=np.int64))
    series = {
        "window_nll": losses.nll_sum.tolist(),
        "window_tokens": losses.num_tokens.tolist(),
        "block_loss": losses.in_blocks().tolist(),
    }
    result: dict[str, list[float | None]] = serialize_result(Result({}, series))["series"]
    return {name: json.loads(json.dumps(values)) for name, values in result.items()}


def reduced(series: dict[str, list[float | None]]) -> list[float | None]:
    blocks = text_error.of_windows(series["window_nll"], series["window_tokens"])
    assert blocks is not None
    return [loss if np.isfinite(loss) else None for loss in blocks.tolist()]


@pytest.mark.parametrize(
    ("num_tokens", "window", "stride"),
    [
        (65_536, 64, 64),  # the built-in language: 1,024 windows
        (287_159, 1024, 1024),  # WikiText-2 under GPT-NeoX's tokenizer: a short last window
        (287_159, 1024, 512),  # overlapping windows: the first scores more
        (287_159, 2048, 64),  # as sliding windows are published: 4,456 of them
        (1_000, 64, 64),  # 16 windows: fewer than blocks
        (2_081, 64, 64),  # 33 windows, the last one of 33 tokens
        (1_025, 1024, 1024),  # the last window would score nothing
        (50, 64, 64),  # one window
    ],
)
def test_stored_windows_give_the_blocks_of_a_new_measurement_bit_by_bit(
    num_tokens: int, window: int, stride: int
) -> None:
    scored = [span.end - span.score for span in windows(num_tokens, window, stride)]
    nll = np.random.default_rng(num_tokens + stride).gamma(2.0, 1.5, len(scored)) * scored
    series = stored(nll, scored)
    assert reduced(series) == series["block_loss"]


def test_windows_that_are_not_finite_break_their_block_and_no_other() -> None:
    nll = np.random.default_rng(0).uniform(50, 200, 100)
    nll[[3, 40]] = np.inf, np.nan
    series = stored(nll, [63] * 100)
    assert reduced(series) == series["block_loss"]
    assert [i for i, loss in enumerate(reduced(series)) if loss is None] == [0, 12]


@pytest.mark.parametrize(
    "series",
    [
        {},
        None,
        {"window_nll": [9.0, 8.0]},  # a result that somebody imported without the counts
        {"window_nll": [9.0, 8.0], "window_tokens": [4.0]},
        {"window_nll": [9.0, 8.0], "window_tokens": [4.0, None]},
        {"window_nll": [9.0, 8.0], "window_tokens": [4.0, 0.0]},
        {"window_nll": [], "window_tokens": []},
    ],
)
def test_windows_that_do_not_suffice_are_no_blocks(series: Any) -> None:
    assert text_error.of_series(series) is None
    assert text_error.of_rows([series]) is None


def test_rows_that_come_with_windows_need_no_blocks() -> None:
    series = stored(np.arange(1.0, 65.0), [8] * 64)
    by_window = {name: values for name, values in series.items() if name != "block_loss"}
    both = text_error.of_rows([series, by_window])
    assert both is not None
    assert both[0].tobytes() == both[1].tobytes()


@pytest.fixture(scope="module", params=[NOISE, FINE_TUNING], ids=["noise", "fine-tuning"])
def measured(lab: Lab, request: pytest.FixtureRequest) -> int:
    id = lab.client.submit(request.param).id
    lab.client.wait(id, timeout=180)
    return id


@pytest.fixture
def as_earlier(measured: int) -> Iterator[list[Any]]:
    """The rows as measured, while the database holds them as earlier releases stored them."""
    where = "FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id"
    with open_session() as session:
        kept = session.execute(
            text(
                f"SELECT a.id, a.series -> 'block_loss' AS blocks {where} "
                "JOIN attempts a ON a.id = m.attempt_id WHERE p.experiment_id = :id"
            ),
            {"id": measured},
        ).all()
        assert kept
        assert all(row.blocks for row in kept)
        strip = "UPDATE attempts SET series = series - 'block_loss' WHERE id = ANY(:ids)"
        session.execute(text(strip), {"ids": [row.id for row in kept]})
        session.commit()
    yield kept
    with open_session() as session:
        for row in kept:
            session.execute(
                text(
                    "UPDATE attempts SET series = series || jsonb_build_object('block_loss', "
                    "CAST(:blocks AS jsonb)) WHERE id = :id"
                ),
                {"id": row.id, "blocks": json.dumps(row.blocks)},
            )
        session.commit()


def test_figures_and_verdicts_of_earlier_results_are_those_of_new_ones(
    lab: Lab, measured: int, as_earlier: list[Any]
) -> None:
    experiment = lab.client.experiment(measured)
    spec = parse(experiment.spec)
    needed = lab.client.rows(measured)
    assert {
        row.attempt: row.series["block_loss"] for row in needed if "window_nll" not in row.series
    }
    blocks = {row.id: row.blocks for row in as_earlier}
    for row in needed:
        assert row.attempt is not None
        if "window_nll" in row.series:
            assert "block_loss" not in row.series
        else:
            assert row.series["block_loss"] == blocks[row.attempt]
    as_of = lab.client.rows(measured, at=experiment.finished_at)
    everything = lab.client.rows(measured, series="all")
    assert not any("block_loss" in row.series for row in everything)
    assert not any(row.series for row in lab.client.rows(measured, series="none"))
    from_server = [verdict.model_dump() for verdict in lab.client.verdicts(measured)]
    assert not any("(on this text)" in (one["effect_name"] or "") for one in from_server)

    now = [
        row.model_copy(update={"series": {**row.series, "block_loss": blocks[row.attempt]}})
        for row in needed
        if row.attempt is not None
    ]
    figures = spec.figures(to_frame(now))
    assert [verdict.model_dump() for verdict in spec.verdicts(to_frame(now))] == from_server
    for rows in (needed, as_of, everything):
        drawn = spec.figures(to_frame(rows))
        assert {name: figure.datasets for name, figure in drawn.items()} == {
            name: figure.datasets for name, figure in figures.items()
        }
