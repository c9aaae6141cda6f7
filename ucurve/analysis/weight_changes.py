"""Numbers and verdicts of changes without draws: the loss before and after rounding or pruning.

    families = conditions(table, "bits", "{:g} bits".format)   # {(scheme, replicate): [Condition]}
    verdicts(table, "bits", "{:g} bits".format)

The table has a row per point: labels suite, revision, tokens, replicate, phase, scheme (None: the
unperturbed model) and one for the level, and once measured nll_mean and the series window_nll and
window_tokens. Nothing is random but the text: its blocks of windows are the replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis import combined_verdicts, condition_verdicts, next_run, statistics
from ucurve.analysis.base_loss import base_blocks, broken_bases
from ucurve.analysis.conditions import Condition
from ucurve.analysis.statistics import Array
from ucurve.schemas.results import Verdict

if TYPE_CHECKING:
    import pandas as pd

Family = tuple[str, int]  # scheme, replicate
LABELS = ("revision", "tokens", "replicate", "phase", "scheme")
COLUMNS = (*LABELS, "nll_mean", "state", "series", "measurement")
SUMMARIZED = ("progressive sensitivity", "catastrophic overtraining")
REPLICATES = "blocks of evaluation windows"


def prepared(table: pd.DataFrame, level: str) -> pd.DataFrame:
    """Return the table with `nll_mean`, `gamma` (0: the unperturbed model, else 1), and `base`.

    base is the checkpoint's unperturbed loss: NaN while unmeasured and inf where it is not finite.
    An empty table gets all columns.
    """
    if table.empty:
        table = table.reindex(columns=[*COLUMNS, level])
    table = table if "nll_mean" in table else table.assign(nll_mean=np.nan)
    table = table.assign(gamma=table["scheme"].notna().astype(float))
    done = table[(table["gamma"] == 0) & (table["state"] == "done")].drop_duplicates("revision")
    base = done.set_index("revision")["nll_mean"].astype(float)
    base = base.where(lambda losses: np.isfinite(losses), np.inf)
    return table.assign(base=table["revision"].map(base).astype(float))


def conditions(
    table: pd.DataFrame, level: str, level_text: Callable[[float], str]
) -> dict[Family, list[Condition]]:
    """Return losses and base of every (scheme, replicate) in blocks, a Condition per level."""
    table = prepared(table, level)
    rows = table[(table["gamma"] > 0) & table["tokens"].notna()]
    families: dict[Family, list[Condition]] = {}
    for key, group in rows.groupby(["scheme", "replicate", level]):
        scheme, replicate, size = cast(tuple[str, int, float], key)
        tokens, losses, measured = blocks_of(group)
        base = table[table["replicate"] == replicate]
        condition = Condition(
            f"{level_text(size)}, {scheme}, pre-training seed {replicate}",
            tokens,
            losses,
            base_blocks(base, tokens),
            measured,
            broken_base=broken_bases(base, tokens),
            draw_name=REPLICATES,
            labels={"scheme": scheme, "replicate": int(replicate), level: float(size)},
            same_blocks=True,
        )
        families.setdefault((scheme, int(replicate)), []).append(condition)
    return families


def blocks_of(rows: pd.DataFrame) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return tokens [num_checkpoints], losses and measured [num_checkpoints, num_blocks].

    rows: those of one change at the checkpoints of one replicate. A point that is done without its
    losses by window, as of an import, has no blocks, and counts as not measured.
    """
    tokens = np.unique(rows["tokens"].to_numpy(dtype=float))
    losses = base_blocks(rows.assign(gamma=0.0), tokens)
    has_windows = np.array(["window_nll" in series for series in rows["series"]], dtype=bool)
    done = set(rows["tokens"][(rows["state"] == "done") & has_windows].astype(float))
    measured = np.array([at in done for at in tokens], dtype=bool)
    return tokens, losses, np.repeat(measured[:, None], losses.shape[1], axis=1)


def verdicts(table: pd.DataFrame, level: str, level_text: Callable[[float], str]) -> list[Verdict]:
    """Return summaries over levels and pre-training seeds per scheme first, then the details."""
    if table.empty:
        return []
    families = conditions(table, level, level_text)
    judged = {
        family: condition_verdicts.all_verdicts(levels)[1:] for family, levels in families.items()
    }
    summaries = [verdict for claim in SUMMARIZED for verdict in _summaries(judged, claim)]
    bases = {replicate: levels[0] for (_, replicate), levels in families.items()}
    base = [
        condition_verdicts.base_degrades(condition).model_copy(
            update={"scope": f"pre-training seed {replicate}"}
        )
        for replicate, condition in sorted(bases.items())
    ]
    details = [verdict for group in judged.values() for verdict in group]
    by_scheme: dict[str, dict[int, Sequence[Condition]]] = {}
    for (scheme, replicate), levels in families.items():
        by_scheme.setdefault(scheme, {})[replicate] = levels
    return [*summaries, *next_run.verdicts(by_scheme, shared=True), *base, *details]


def _summaries(judged: Mapping[Family, Sequence[Verdict]], claim: str) -> list[Verdict]:
    """Summarize one claim per scheme: over levels, then over pre-training seeds."""
    summaries = []
    for scheme in dict.fromkeys(scheme for scheme, _ in judged):
        runs = []
        for (name, replicate), group in judged.items():
            about = [verdict for verdict in group if verdict.claim == claim]
            if name == scheme and about:
                runs.append(
                    combined_verdicts.over_conditions(about, f"pre-training seed {replicate}")
                )
        if runs:
            summaries.append(combined_verdicts.over_replicates(runs, scheme))
    return summaries


def with_intervals(
    rows: list[dict[str, Any]],
    table: pd.DataFrame,
    level: str,
    transform: Callable[[Array], Array],
    increase: bool = False,
) -> list[dict[str, Any]]:
    """Return the rows with a band around the mean of every change, over blocks of windows.

    The loss gets the 95% interval for comparing checkpoints, with what a block has in common over
    checkpoints removed; with increase, rows are after minus before, and the interval is that of
    their mean over the same blocks.
    """
    bands: dict[tuple[Any, ...], tuple[float, float]] = {}
    for key, group in table[(table["gamma"] > 0) & table["tokens"].notna()].groupby(
        ["scheme", "replicate", level]
    ):
        tokens, losses, _ = blocks_of(group)
        if increase:
            losses = losses - base_blocks(table[table["replicate"] == key[1]], tokens)
        usable = np.isfinite(losses).all(axis=1)
        tokens, losses = tokens[usable], losses[usable]
        if increase:
            ends = [statistics.mean_interval(row)[1:] for row in losses]
            low, high = np.array(ends, dtype=float).reshape(-1, 2).T
        else:
            low, high = statistics.paired_intervals(losses)
        for at, *interval in zip(tokens, transform(low), transform(high), strict=True):
            if np.isfinite(interval).all():
                bands[(*key, at)] = float(interval[0]), float(interval[1])

    def with_band(row: dict[str, Any]) -> dict[str, Any]:
        place = tuple(row.get(name) for name in ("scheme", "replicate", level, "tokens"))
        if row["what"] != "mean" or place not in bands:
            return row
        return {**row, "low": bands[place][0], "high": bands[place][1]}

    return [with_band(row) for row in rows]


def matrix_rows(table: pd.DataFrame, level: str) -> list[dict[str, Any]]:
    """Return what was changed at the last measured checkpoint, a row per kind of matrix.

    Layers are folded into *: a label has the range over them of the relative change of the weights
    and of the share of zeros, and how many weights share a range.
    """
    folded: dict[tuple[Any, ...], list[list[float]]] = {}
    done = table[(table["gamma"] > 0) & (table["state"] == "done") & table["tokens"].notna()]
    for key, group in done.groupby(["scheme", "replicate", level]):
        last = int(group["tokens"].to_numpy(dtype=float).argmax())
        for name, numbers in group["series"].iloc[last].items():
            if name.startswith("matrix/"):
                folded.setdefault((*key, _folded(name)), []).append(list(numbers))
    return [
        {
            "what": "cell",
            "scheme": scheme,
            "replicate": int(replicate),
            level: float(size),
            "matrix": name if len(matrices) == 1 else f"{name} ({len(matrices)})",
            "label": _described(matrices),
        }
        for (scheme, replicate, size, name), matrices in folded.items()
    ]


def _folded(name: str) -> str:
    parts = name.removeprefix("matrix/").split(".")
    return ".".join("*" if part.isdigit() else part for part in parts)


def _described(matrices: Sequence[Sequence[float | None]]) -> str:
    zeros, _, change, _, _, block, last = (
        [np.nan if value is None else value for value in column]
        for column in zip(*matrices, strict=True)
    )
    size = _range([min(block), max(block)], "{:.0f}")
    if min(last) < min(block):
        size += f", last {_range([min(last), max(last)], '{:.0f}')}"
    return f"{_range(change, '{:.2g}')} · {_shares(zeros)} · {size}"


def _shares(values: Sequence[float]) -> str:
    return _range(values, "{:.1%}" if min(values) == max(values) else "{:.0%}")


def _range(values: Sequence[float], number: str) -> str:
    texts = list(dict.fromkeys(number.format(value) for value in (min(values), max(values))))
    return "–".join(texts)
