"""What the Hessian says that Gaussian noise costs, beside what it costs, over gamma^2 / 2.

    for cost in noise_costs(estimates(table, gammas=[0.05, 0.1])):
        cost.curve.forms                   # [num_checkpoints, num_draws]: sum of sigma^2 v . H v
        departures(cost.curve)             # of the loss increase from gamma^2 / 2 times it

Both on the windows of the Hessian: of the increase, measured on the whole set, the blocks of these
windows are taken. A draw has the same seed on both sides, so that the two are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ucurve.analysis import text_error
from ucurve.analysis.conditions import paired
from ucurve.analysis.sharpness import Curve, placed, prepared
from ucurve.analysis.statistics import Array
from ucurve.formatting import count

if TYPE_CHECKING:
    import pandas as pd

SCALES = ("init_std", "current_std")
HESSIAN = 0.0  # the gamma of what the Hessian predicts
EARLIER = (
    "an earlier release measured these traces without the σ of the noise: run the experiment again"
)
NO_BLOCKS = "an earlier release measured this noise, without its loss by block: measure it again"
COLUMNS = ["revision", "tokens", "replicate", "scale", "gamma", "draw", "state", "measurement"]


def estimates(table: pd.DataFrame, gammas: Sequence[float]) -> pd.DataFrame:
    """Return predictions (gamma 0) and measured loss increases over gamma^2 / 2: a row per draw.

    Columns: those of COLUMNS; value, NaN where it is not finite or not measured, infinite where
    noise broke the model; problem: why there is none although it was measured, or "".
    """
    import pandas as pd

    table = with_gammas(prepared(table), gammas)
    table = table[table["tokens"].notna()]
    noise = table[table["part"] == "gaussian"]
    probes = table[table["part"] == "trace"]
    if noise.empty:
        return pd.DataFrame(columns=[*COLUMNS, "value", "problem"])
    frames = [_measured(noise, table)]
    for scale in SCALES:
        values = probes.get(f"scaled_trace_{scale}", probes["trace"] * np.nan).astype(float)
        lacks = (probes["state"] == "done") & values.isna() & np.isfinite(probes["trace"])
        problem = np.where(lacks, EARLIER, "")
        frames.append(probes.assign(scale=scale, gamma=HESSIAN, value=values, problem=problem))
    return pd.concat([frame[[*COLUMNS, "value", "problem"]] for frame in frames])


def with_gammas(table: pd.DataFrame, gammas: Sequence[float]) -> pd.DataFrame:
    """Return the table with the gamma of noise that does not name it: there was one only."""
    named = table["gamma"].astype(float)
    one = gammas[0] if gammas else np.nan
    return table.assign(gamma=named.where(named.notna() | (table["part"] != "gaussian"), one))


def _measured(noise: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of noise with their value on the windows of the Hessian."""
    done = table[table["state"] == "done"]
    probes, bases = done[done["part"] == "trace"], done[done["part"] == "unperturbed"]
    scored = dict(zip(probes["revision"], probes["num_tokens"], strict=True))
    series = dict(zip(bases["revision"], bases["series"], strict=True))
    values, problems = [], []
    for row in noise.to_dict("records"):
        rise: float | str = np.nan
        num, before = scored.get(row["revision"]), series.get(row["revision"])
        if row["state"] == "done" and num is not None and before is not None:
            rise = _rise(row["series"], before, num) if np.isfinite(row["nll_mean"]) else np.inf
        problems.append(rise if isinstance(rise, str) else "")
        values.append(np.nan if isinstance(rise, str) else 2 * rise / row["gamma"] ** 2)
    return noise.assign(value=values, problem=problems)


def _rise(after: Any, before: Any, num_scored: float) -> float | str:
    """Return the loss increase on the first `num_scored` tokens, or why it is not known."""
    blocks, base = text_error.of_series(after), text_error.of_series(before)
    scored = before.get("window_tokens") if isinstance(before, Mapping) else None
    if blocks is None or base is None or not scored or len(blocks) != len(base):
        return NO_BLOCKS
    found = first_windows(blocks - base, np.array(scored, dtype=float), num_scored)
    return found if found is not None else _choose_windows(scored, num_scored, len(blocks))


def first_windows(blocks: Array, window_tokens: Array, num_scored: float) -> float | None:
    """Return the loss per token of the windows that hold the first `num_scored` scored tokens.

    blocks: those of `statistics.blocks` of all windows. None where these windows end inside one.
    """
    ends = _ends(len(window_tokens), len(blocks))
    num = _num_windows(window_tokens, num_scored)
    if num not in ends:
        return None
    sums = blocks * window_tokens.sum() / len(blocks)
    return float(sums[: ends.index(num) + 1].sum() / num_scored)


def _num_windows(window_tokens: Array, num_scored: float) -> int:
    return int(np.searchsorted(np.cumsum(window_tokens), num_scored)) + 1


def _ends(num_windows: int, num_blocks: int) -> list[int]:
    """Return how many windows each block and those before it hold."""
    sizes = [len(part) for part in np.array_split(np.arange(num_windows), num_blocks)]
    return [int(end) for end in np.cumsum(sizes)]


def _choose_windows(window_tokens: Sequence[float], num_scored: float, num_blocks: int) -> str:
    num = _num_windows(np.array(window_tokens), num_scored)
    ends = _ends(len(window_tokens), num_blocks)
    near = [*[end for end in ends if end < num][-1:], *[end for end in ends if end > num][:1]]
    return (
        f"losses under noise are stored in blocks of windows, and {count(num)} windows end inside "
        f"one: set windows to {' or '.join(map(count, near))}"
    )


@dataclass(frozen=True)
class NoiseCost:
    """The cost of noise of one pre-training run under one noise scale.

    curve: forms are the sums of sigma^2 v . H v, rises those of every gamma on the same windows.
    problem: why some of it cannot be compared; "" where all can.
    """

    replicate: int
    scale: str
    curve: Curve
    problem: str = ""


def noise_costs(found: pd.DataFrame) -> list[NoiseCost]:
    """Return the costs by pre-training seed and noise scale, from `estimates`."""
    costs = []
    for key, rows in found.groupby(["replicate", "scale"]):
        replicate, scale = cast(tuple[int, str], key)
        predicted, noise = rows[rows["gamma"] == HESSIAN], rows[rows["gamma"] != HESSIAN]
        if predicted.empty or noise.empty:
            continue
        x, forms, measured = paired(predicted, value="value")
        draws = np.unique(predicted["draw"].to_numpy(dtype=float))
        noise = noise.assign(rise=noise["value"] * noise["gamma"] ** 2 / 2)
        rises = {
            float(cast(float, gamma)): placed(group, x, draws)
            for gamma, group in noise.groupby("gamma")
        }
        problems = [problem for problem in rows["problem"] if problem]
        curve = Curve(x, forms, measured, rises)
        costs.append(NoiseCost(int(replicate), str(scale), curve, (problems or [""])[0]))
    return costs


def noise_curves(
    table: pd.DataFrame, gammas: Sequence[float]
) -> dict[tuple[int, str], tuple[Array, Array]]:
    """Return tokens and loss increases on the whole set, by pre-training seed and noise scale.

    Under the smallest gamma, [num_checkpoints, num_draws] in nats, of checkpoints whose unperturbed
    loss is measured; NaN where one is not finite or not measured.
    """
    table = with_gammas(prepared(table), gammas)
    bases = table[table["part"] == "unperturbed"].set_index("revision")["nll_mean"]
    noise = table[(table["part"] == "gaussian") & table["tokens"].notna()]
    noise = noise[noise["gamma"] == noise["gamma"].min()]
    found: dict[tuple[int, str], tuple[Array, Array]] = {}
    noise = noise.assign(increase=noise["nll_mean"] - noise["revision"].map(bases))
    for key, rows in noise.groupby(["replicate", "scale"]):
        replicate, scale = cast(tuple[int, str], key)
        x, values, measured = paired(rows, value="increase")
        found[int(replicate), str(scale)] = x, np.where(measured, values, np.nan)
    return found
