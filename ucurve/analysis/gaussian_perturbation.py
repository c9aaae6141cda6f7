"""Numbers and verdicts of Gaussian perturbation: loss before and after noise on the weights.

    families = conditions(table)            # {(scale, replicate): one Condition per gamma}
    verdicts(table)                         # summaries over noise conventions first
 The table has a row per point: labels suite, revision, tokens, replicate, phase, gamma (0: the
base), scale, draw, group ("all": the selected tensors together), and once measured nll_mean in nats
per token and rms_<group> of the base's weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ucurve.analysis import (
    combined_verdicts,
    condition_verdicts,
    loss_increase_law,
    next_run,
    replication,
)
from ucurve.analysis.base_loss import base_blocks, broken_bases
from ucurve.analysis.conditions import Condition, paired, paired_blocks
from ucurve.schemas.results import Verdict

if TYPE_CHECKING:
    import pandas as pd

Family = tuple[str, int]  # noise convention, replicate
LABELS = ("revision", "tokens", "replicate", "phase", "gamma", "scale", "draw", "group")
COLUMNS = (*LABELS, "nll_mean", "state", "series", "measurement")
SUMMARIZED = ("progressive sensitivity", "catastrophic overtraining")


def prepared(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with `nll_mean`, and with `base`: the checkpoint's unperturbed loss.

    base is NaN while unmeasured and inf where it is not finite; an empty table gets all columns.
    """
    if table.empty:
        table = table.reindex(columns=list(COLUMNS))
    table = table if "nll_mean" in table else table.assign(nll_mean=np.nan)
    base = table[(table["gamma"] == 0) & (table["state"] == "done")].set_index("revision")[
        "nll_mean"
    ]
    base = base.astype(float).where(lambda losses: np.isfinite(losses), np.inf)
    return table.assign(base=table["revision"].map(base).astype(float))


def perturbed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of noise on all selected tensors together."""
    return table[(table["gamma"] > 0) & (table["group"] == "all")]


def comparable_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that published numbers are compared with: whole models, with their base."""
    table = prepared(table)
    return table[(table["gamma"] == 0) | (table["group"] == "all")]


def conditions(table: pd.DataFrame, look: int = 1) -> dict[Family, list[Condition]]:
    """Return losses and base of every (scale, replicate), a Condition per gamma.

    look: number of this interim analysis.
    """
    rows = perturbed(prepared(table))
    rows = rows[rows["tokens"].notna()].drop_duplicates(
        ["scale", "replicate", "gamma", "tokens", "draw"]
    )
    families: dict[Family, list[Condition]] = {}
    for key, group in rows.groupby(["scale", "replicate", "gamma"]):
        scale, replicate, gamma = cast(tuple[str, int, float], key)
        tokens, losses, measured = paired(group)
        base = table[table["replicate"] == replicate]
        labels: dict[str, Any] = {
            "scale": scale,
            "replicate": int(replicate),
            "gamma": float(gamma),
        }
        condition = Condition(
            f"gamma {gamma:g} under {scale}, pre-training seed {replicate}",
            tokens,
            losses,
            base_blocks(base, tokens),
            measured,
            broken_base=broken_bases(base, tokens),
            blocks=paired_blocks(group),
            draw_name="noise seeds",
            look=look,
            labels=labels,
        )
        families.setdefault((scale, replicate), []).append(condition)
    return families


def verdicts(
    table: pd.DataFrame,
    look: int = 1,
    references: Sequence[replication.Reference] = (),
    shared: bool = True,
) -> list[Verdict]:
    """Return summaries over gammas, pre-training seeds and conventions first, then the details.

    references: published numbers of this experiment, judged before everything else. shared: the
    pre-training seeds have the same noise seeds.
    """
    published = replication.verdict(replication.compare(references, comparable_rows(table)))
    first = [published] if published else []
    if table.empty:
        return first
    families = conditions(table, look)
    judged = {
        family: condition_verdicts.all_verdicts(gammas)[1:] for family, gammas in families.items()
    }
    summaries = [
        verdict
        for claim in SUMMARIZED
        for verdict in _summaries(
            {
                family: [verdict for verdict in group if verdict.claim == claim]
                for family, group in judged.items()
            }
        )
    ]
    bases = {replicate: gammas[0] for (_, replicate), gammas in families.items() if gammas}
    base = [
        condition_verdicts.base_degrades(condition).model_copy(
            update={"scope": f"pre-training seed {replicate}"}
        )
        for replicate, condition in sorted(bases.items())
    ]
    details = [verdict for group in judged.values() for verdict in group]
    return [*first, *summaries, *_next_run(families, shared), *base, *details, *_laws(families)]


def _next_run(families: Mapping[Family, Sequence[Condition]], shared: bool) -> list[Verdict]:
    """Return what the pre-training seeds say of the next one, by noise convention."""
    by_scale: dict[str, dict[int, Sequence[Condition]]] = {}
    for (scale, replicate), gammas in families.items():
        by_scale.setdefault(f"under {scale}", {})[int(replicate)] = gammas
    return next_run.verdicts(by_scale, shared, conventions=True)


def _laws(families: Mapping[Family, Sequence[Condition]]) -> list[Verdict]:
    """Return the law over gammas and tokens of every convention and pre-training seed.

    Each convention's summary over pre-training seeds comes first, where there are several.
    """
    summaries, details = [], []
    for scale in dict.fromkeys(scale for scale, _ in families):
        laws = [
            loss_increase_law.law_verdict(
                gammas, "gamma", "gamma", f"under {scale}, pre-training seed {replicate}"
            )
            for (name, replicate), gammas in families.items()
            if name == scale
        ]
        if len(laws) > 1:
            summaries.append(loss_increase_law.over_replicates(laws, f"under {scale}"))
        details += laws
    return [*summaries, *details]


def _summaries(judged: Mapping[Family, Sequence[Verdict]]) -> list[Verdict]:
    """Summarize one claim over conventions, then per convention over pre-training seeds."""
    by_scale = {}
    for scale in dict.fromkeys(scale for scale, _ in judged):
        runs = [
            combined_verdicts.over_conditions(group, f"pre-training seed {replicate}")
            for (name, replicate), group in judged.items()
            if name == scale and group
        ]
        if runs:
            by_scale[scale] = combined_verdicts.over_replicates(runs, f"under {scale}")
    return [combined_verdicts.over_conventions(by_scale), *by_scale.values()] if by_scale else []
