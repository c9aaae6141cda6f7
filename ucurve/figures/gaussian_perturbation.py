"""Loss before and after noise on the weights, over pre-training tokens: the figures and verdicts of Gaussian perturbation.

    families = conditions(table)            # {(scale, replicate): one Condition per gamma}
    figures(table, gammas=[0.1, 0.2])       # {"perplexity": Figure, ...}
    verdicts(table)                         # what holds under both conventions first, then the evidence

The table has a row per point: labels suite, revision, tokens, replicate, phase, gamma (0: the base), scale, draw, group ("all":
the selected tensors together), and once measured nll_mean in nats per token and rms_<group> of the base's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ucurve.analysis import claims
from ucurve.analysis.base_loss import base_blocks, with_base_intervals
from ucurve.figures import charts
from ucurve.spec import Figure, Verdict

if TYPE_CHECKING:
    import pandas as pd

Family = tuple[str, int]  # noise convention, replicate
Shown = Callable[["pd.Series", "pd.DataFrame"], Any]
GROUPS = ("embedding", "attention", "mlp", "norm", "unembedding")
FACETS = ("scale", "replicate")
TOKENS = charts.tokens_axis()
NATS = charts.Axis("y", "change of the loss / nats", "symlog", constant=0.01)
BANDS = (
    "Bands: 95% t interval of the mean loss over draws, drawn no further than a little beyond the outermost point; of the base: "
    "over paired blocks of windows of the evaluation text. Dots: single draws; triangles at the top: draws that are not finite, or "
    "failed, whose mean is not drawn. Draws describe one pre-training run; replicates are further runs."
)


# ---- the numbers


def prepared(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `nll_mean`, and with `base`: the loss before of the same checkpoint (NaN while unmeasured)."""
    table = table if "nll_mean" in table else table.assign(nll_mean=np.nan)
    base = table[(table["gamma"] == 0) & (table["state"] == "done")].set_index("revision")[
        "nll_mean"
    ]
    return table.assign(base=table["revision"].map(base).astype(float))


def perturbed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of noise on all selected tensors together."""
    return table[(table["gamma"] > 0) & (table["group"] == "all")]


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """What published numbers are compared with: all rows on whole models, with their base."""
    table = prepared(_empty(table) if table.empty else table)
    return table[(table["gamma"] == 0) | (table["group"] == "all")]


def conditions(table: pd.DataFrame, looks: int = 1) -> dict[Family, list[claims.Condition]]:
    """Losses and base of every (scale, replicate), a Condition per gamma; looks: how often they are looked at."""
    rows = perturbed(prepared(table))
    rows = rows[rows["tokens"].notna()].drop_duplicates(
        ["scale", "replicate", "gamma", "tokens", "draw"]
    )
    families: dict[Family, list[claims.Condition]] = {}
    for key, group in rows.groupby(["scale", "replicate", "gamma"]):
        scale, replicate, gamma = cast(tuple[str, int, float], key)
        tokens, losses, measured = claims.paired(group)
        base = base_blocks(table[table["replicate"] == replicate], tokens)
        scope = f"gamma {gamma:g} under {scale}, replicate {replicate}"
        one = claims.Condition(scope, tokens, losses, base, measured, looks=looks)
        families.setdefault((scale, replicate), []).append(one)
    return families


def bottoms(table: pd.DataFrame, looks: int = 1) -> list[dict[str, Any]]:
    """Where the loss (y, nats) after the change is lowest, with its bootstrap interval, unless at the last checkpoint.

    "bottom" where the rise after it is established, else "open bottom".
    """
    rows = []
    for (scale, replicate), family in conditions(table, looks).items():
        overtraining = claims.catastrophic_overtraining(family)
        found = claims.inflection_point(family, overtraining)
        gammas = sorted(set(perturbed(table)["gamma"]))
        for gamma, asked, verdict in zip(gammas, family, found, strict=True):
            condition = asked.complete()
            if verdict.interval is None or verdict.effect == condition.x[-1]:
                continue
            means = condition.losses.mean(axis=1)
            lowest = float(means[condition.x == verdict.effect][0])
            if np.isfinite(lowest):
                place = {
                    "scale": scale,
                    "replicate": replicate,
                    "gamma": gamma,
                    "tokens": verdict.effect,
                    "y": lowest,
                }
                low, high = verdict.interval
                what = "bottom" if verdict.answer == "yes" else "open bottom"
                rows.append(
                    {"what": what, **place, "x_low": low, "x_high": high, "label": verdict.sentence}
                )
    return rows


def cells(
    rows: Sequence[Mapping[str, Any]], number: str, spread: bool = False
) -> list[dict[str, Any]]:
    """One row per checkpoint, gamma and facet with `y` and a `label`: the mean's (± half its interval), or why there is none."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if row["what"] in ("mean", "waiting", "edge"):
            key = tuple(row[name] for name in ("tokens", "gamma", *FACETS))
            cell = found.setdefault(key, {**row, "y": None, "label": "…"})
            if row["what"] != "waiting":
                half = (
                    (row["high"] - row["low"]) / 2
                    if row.get("low") is not None and row.get("high") is not None
                    else None
                )
                text = row.get("label") or format(row["y"], number) + (
                    f" ±{half:.2g}" if spread and half is not None else ""
                )
                cell |= {
                    "y": row.get("y"),
                    "low": row.get("low"),
                    "high": row.get("high"),
                    "label": text,
                }
    return list(found.values())


# ---- the figures


def figures(
    table: pd.DataFrame, gammas: Sequence[float], group_gamma: float | None = None, looks: int = 1
) -> dict[str, Figure]:
    """All figures by name, from whatever rows there are. group_gamma: also damage by tensor group, measured at this gamma."""
    table = prepared(_empty(table) if table.empty else table)
    base, after = table[table["gamma"] == 0], perturbed(table)
    scales = [scale for scale in dict.fromkeys(table["scale"]) if isinstance(scale, str)]
    before_and_after = _stacked([*(base.assign(scale=scale) for scale in scales), after])
    lines = charts.Lines("gamma", "γ", list(gammas))
    lines_and_base = charts.Lines("gamma", "γ", [0.0, *gammas], neutral=[0.0])
    perplexity = with_base_intervals(
        _rows(before_and_after, lambda loss, _: np.exp(loss)), table, "gamma", np.exp
    )
    loss = with_base_intervals(
        _rows(before_and_after, lambda loss, _: loss), table, "gamma", np.asarray
    )
    damage = _rows(after, lambda loss, row: loss - row["base"])
    cell = max(
        16, min(46, 860 // max(1, table["tokens"].nunique() * len(scales)))
    )  # or a long suite's are cut by the page
    made = {
        **_absolute(perplexity, loss, bottoms(table, looks), lines_and_base),
        **_changes(
            _rows(after, lambda loss, row: np.exp(loss) - np.exp(row["base"])), damage, lines
        ),
        "heat_map": Figure(
            "Damage by checkpoint and noise",
            "Mean change of the loss in nats; ±: its 95% interval over draws holds zero.",
            charts.heat_map(TOKENS, lines, NATS, row="replicate", column="scale", width=cell),
            {"cells": cells(damage, ".3g")},
        ),
        "table": Figure(
            "Perplexity before and after",
            "Perplexity (exp of the mean loss over draws) of every checkpoint, base first; ± half the 95% interval over draws, of "
            "the base over windows of text.",
            charts.text_table(TOKENS, lines_and_base, row="replicate", column="scale", width=92),
            {"cells": cells(perplexity, ".4g", spread=True)},
        ),
        "weights": _weights(base),
    }
    return made if group_gamma is None else {**made, "by_group": _by_group(table, group_gamma)}


def _rows(frame: pd.DataFrame, shown: Shown, line: str = "gamma") -> list[dict[str, Any]]:
    return charts.curve_rows(
        frame, "tokens", "nll_mean", [line, "phase", "base"], facets=FACETS, shown=shown
    )


def _drawn(
    title: str,
    caption: str,
    y: charts.Axis,
    lines: charts.Lines,
    rows: list[dict[str, Any]],
    **options: Any,
) -> Figure:
    chart = charts.curves(
        TOKENS, y, lines, row="replicate", column="scale", also=["phase"], **options
    )
    return Figure(title, f"{caption} {BANDS}", chart, {"curves": rows})


def _absolute(
    perplexity: list[dict[str, Any]],
    loss: list[dict[str, Any]],
    lowest: list[dict[str, Any]],
    lines: charts.Lines,
) -> dict[str, Figure]:
    """What is left after the noise: the U-curve, and the same in nats."""
    pointing = "Pointing down: the lowest point with its 95% bootstrap interval, filled where the rise after it is established."
    return {
        "perplexity": _drawn(
            "Perplexity after noise",
            f"Perplexity (exp of the mean loss) against pre-training tokens, base in grey. {pointing}",
            charts.Axis("y", "perplexity", "log"),
            lines,
            [*perplexity, *({**row, "y": float(np.exp(row["y"]))} for row in lowest)],
            metric="perplexity",
        ),
        "loss": _drawn(
            "Loss after noise",
            f"Mean loss against pre-training tokens, base in grey. {pointing}",
            charts.Axis("y", "loss / nats"),
            lines,
            [*loss, *lowest],
        ),
    }


def _changes(
    perplexity: list[dict[str, Any]], loss: list[dict[str, Any]], lines: charts.Lines
) -> dict[str, Figure]:
    """After minus before."""
    return {
        "perplexity_change": _drawn(
            "Change of perplexity by noise",
            "Perplexity after minus before, against pre-training tokens.",
            charts.Axis("y", "change of perplexity", "symlog"),
            lines,
            perplexity,
            zero_line=True,
            metric="perplexity_change",
        ),
        "loss_change": _drawn(
            "Damage",
            "Loss after minus before in nats: comparable between checkpoints, which a change of perplexity is not.",
            NATS,
            lines,
            loss,
            zero_line=True,
        ),
    }


def _empty(table: pd.DataFrame) -> pd.DataFrame:
    names = (
        "revision",
        "tokens",
        "replicate",
        "phase",
        "gamma",
        "scale",
        "draw",
        "group",
        "nll_mean",
        "state",
        "series",
    )
    return table.reindex(columns=[*names, "measurement"])


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    full = [frame for frame in frames if len(frame)]
    return pd.concat(full, ignore_index=True) if full else frames[-1]


def _weights(base: pd.DataFrame) -> Figure:
    """Does the weights' size change with tokens? Noise in proportion to it then changes too."""
    sizes = [
        base.assign(group=group, rms=base[f"rms_{group}"])
        for group in GROUPS
        if f"rms_{group}" in base and len(base)
    ]
    lines = charts.Lines("group", "tensors", list(GROUPS), ordered=False)
    rows = (
        charts.curve_rows(_stacked(sizes), "tokens", "rms", ["group"], facets=["replicate"])
        if sizes
        else []
    )
    return Figure(
        "Size of the weights",
        "Root mean square of the unperturbed weights by tensor group. Where it grows, noise under current_std grows with it.",
        charts.curves(
            TOKENS, charts.Axis("y", "rms of the weights", "log"), lines, row="replicate"
        ),
        {"curves": [row for row in rows if row["what"] != "note"]},
    )


def _by_group(table: pd.DataFrame, gamma: float) -> Figure:
    """Which part of the model carries the sensitivity?"""
    return _drawn(
        "Damage by tensor group",
        f"Change of the loss in nats when only one group of tensors gets noise of gamma {gamma:g}.",
        NATS,
        charts.Lines("group", "tensors", list(GROUPS), ordered=False),
        _rows(
            table[(table["gamma"] > 0) & (table["group"] != "all")],
            lambda loss, row: loss - row["base"],
            "group",
        ),
        zero_line=True,
    )


# ---- the verdicts


def verdicts(table: pd.DataFrame, looks: int = 1) -> list[Verdict]:
    """What holds over gammas, replicates and conventions first, then the verdicts that it rests on."""
    if table.empty:
        return []
    families = conditions(table, looks)
    parts: dict[Family, list[Verdict]] = {}
    for family, gammas in families.items():
        parts[family] = [
            verdict for verdict in claims.all_verdicts(gammas) if verdict.claim != "base degrades"
        ]
    summary = [
        verdict
        for claim in ("progressive sensitivity", "catastrophic overtraining")
        for verdict in _summary(
            {family: [v for v in found if v.claim == claim] for family, found in parts.items()}
        )
    ]
    bases = {replicate: gammas[0] for (_, replicate), gammas in families.items() if gammas}
    base = [
        claims.base_degrades(one).model_copy(update={"scope": f"replicate {r}"})
        for r, one in sorted(bases.items())
    ]
    return [*summary, *base, *(verdict for found in parts.values() for verdict in found)]


def _summary(parts: Mapping[Family, Sequence[Verdict]]) -> list[Verdict]:
    """One claim over conventions, then per convention over replicates."""
    by_scale = {}
    for scale in dict.fromkeys(scale for scale, _ in parts):
        runs = [
            claims.over_conditions(found, f"replicate {replicate}")
            for (name, replicate), found in parts.items()
            if name == scale and found
        ]
        if runs:
            by_scale[scale] = claims.over_replicates(runs, f"under {scale}")
    return [claims.over_conventions(by_scale), *by_scale.values()] if by_scale else []
