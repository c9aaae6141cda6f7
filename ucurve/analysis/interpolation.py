"""Numbers and verdicts of lines between two models: the barrier, and the average of both ends.

    for line in lines(table):            # one per pair, ends included
        barrier(line)                    # its height over the chord, interval, place and p-value
    verdicts(table)

The table has a row per point: labels revision, tokens, to_revision, to_tokens, between (None: an
end of a line) and t, and once measured nll_mean and the series window_nll and window_tokens. An end
with a `seed` is the checkpoint after fine-tuning with this seed; `to_seed` is that of the other
end. Nothing is random but the text: its blocks of windows are the replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis import combined_verdicts, contrasts, statistics
from ucurve.analysis.base_loss import base_blocks
from ucurve.analysis.conditions import METHOD, METHOD_TEXT
from ucurve.analysis.statistics import Array
from ucurve.formatting import counted, tokens
from ucurve.schemas.results import Answer, Verdict

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
SMALLEST = 0.01  # nats: the smallest barrier or gain of interest
REPLICATES = "blocks of evaluation windows"
LABELS = ("revision", "tokens", "between", "to_revision", "to_tokens", "seed", "to_seed", "t")
COLUMNS = (*LABELS, "nll_mean", "state", "series", "measurement")
ALONG = "checkpoints of "  # how `between` begins on lines between budgets of one seed
FAMILIES = {
    ALONG: "consecutive checkpoints",
    "before and after fine-tuning": "before and after fine-tuning",
    "fine-tuning seeds": "fine-tuning seeds",
    "pre-training seeds": "pre-training seeds",
}
BARRIER, AVERAGE = "loss barrier", "average better than both ends"


@dataclass(frozen=True)
class Line:
    """The losses of one pair at positions t [num], in blocks [num, num_blocks], NaN where unknown.

    done: the measured positions; the loss at one of them may not be finite. seed and to_seed: of
    the fine-tuning of an end, None where it is a checkpoint as it is.
    """

    between: str
    first: str
    second: str
    tokens: float
    to_tokens: float
    t: Array
    losses: Array
    done: NDArray[np.bool_]
    seed: int | None = None
    to_seed: int | None = None

    @property
    def scope(self) -> str:
        """The pair for people: "0.9M to 1.79M tokens, pre-training seed 0"."""
        return f"{self.span}, {self.curve.removeprefix(ALONG)}"

    @property
    def curve(self) -> str:
        """What lines of other tokens have in common with it: what they are between, and seeds."""
        is_tuned = self.seed is None and self.to_seed is not None
        return f"{self.between}, fine-tuning seed {self.to_seed}" if is_tuned else self.between

    @property
    def labels(self) -> dict[str, Any]:
        """The labels of a verdict on this line."""
        seeds = {"seed": self.seed, "to_seed": self.to_seed}
        return {
            "revision": self.first,
            "to_revision": self.second,
            **{name: seed for name, seed in seeds.items() if seed is not None},
        }

    @property
    def span(self) -> str:
        """The tokens of both ends: "0.9M to 1.79M tokens"."""
        at = [tokens(self.tokens), tokens(self.to_tokens)]
        return f"{at[0]} tokens" if at[0] == at[1] else f"{at[0]} to {at[1]} tokens"

    @property
    def obstacle(self) -> str:
        """Why nothing can be said of the line; empty where something can."""
        missing = int((~self.done).sum())
        if missing:
            return f"{missing} of {len(self.t)} positions are not measured."
        broken = self.t[~np.isfinite(self.losses).all(axis=1)]
        if len(broken):
            return (
                f"The loss at t = {broken[0]:g} is not finite, or has no losses by window: it "
                "cannot be compared with the others."
            )
        if self.losses.shape[1] < 2:
            return (
                "The evaluation text is a single window, so its sampling error is unknown: use "
                "more evaluation text."
            )
        return ""

    @property
    def excess(self) -> Array:
        """The losses inside the line minus the chord (1 - t) L(0) + t L(1), in blocks."""
        t, first, last = self.t[1:-1, None], self.losses[0], self.losses[-1]
        excess: Array = self.losses[1:-1] - ((1 - t) * first + t * last)
        return excess

    @property
    def average(self) -> Array:
        """The losses of both ends and of their average, [3, num_blocks]."""
        middle = int(np.abs(self.t - 0.5).argmin())
        return self.losses[[0, -1, middle]]


@dataclass(frozen=True)
class Height:
    """A barrier or a gain in nats with its 95% interval, and p-values of either sign.

    t: where the barrier is highest. p_value: one-sided, of the claim. p_opposite: of its reverse.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    p_opposite: float
    t: float


def prepared(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per position of every line, so that an end stands in each of its lines.

    Adds `line` (the number of the pair) and `chord`, NaN until both ends are measured.
    """
    import pandas as pd

    if table.empty or "nll_mean" not in table:
        table = table.reindex(columns=[*dict.fromkeys([*table.columns, *COLUMNS])])
    table = table.assign(**{name: None for name in ("seed", "to_seed") if name not in table})
    ends = {
        (row["revision"], _seed(row["seed"])): row
        for row in reversed(table[table["between"].isna()].to_dict("records"))
    }
    pieces = []
    inside = table[table["between"].notna()]
    by = ["between", "tokens", "revision", "to_revision", "seed", "to_seed"]
    for number, (_, rows) in enumerate(inside.groupby(by, dropna=False)):
        place = {name: rows[name].iloc[0] for name in LABELS if name != "t"}
        keys = [
            (place["revision"], _seed(place["seed"])),
            (place["to_revision"], _seed(place["to_seed"])),
        ]
        both_ends = [
            {**ends[key], **place, "t": t} for key, t in zip(keys, (0.0, 1.0), strict=True)
            if key in ends
        ]  # fmt: skip
        losses = [float(ends[key]["nll_mean"]) if key in ends else np.nan for key in keys]
        whole = [*both_ends, *rows.to_dict("records")]
        line = pd.DataFrame(whole, columns=table.columns).sort_values("t", kind="stable")
        chord = (1 - line["t"]) * losses[0] + line["t"] * losses[1]
        pieces.append(line.assign(line=number, chord=chord.astype(float)))
    if not pieces:
        return table.iloc[:0].assign(line=0, chord=np.nan)
    return pd.concat(pieces, ignore_index=True)


def _seed(label: Any) -> int | None:
    """Return the fine-tuning seed of a label; pandas has NaN for None among numbers."""
    return None if label is None or label != label else int(label)


def lines(table: pd.DataFrame) -> list[Line]:
    """Return the lines of a table, sorted by what they are between, then by tokens."""
    every_line = []
    for _, rows in prepared(table).groupby("line"):
        t = rows["t"].to_numpy(dtype=float)
        losses = base_blocks(rows.assign(gamma=0.0, tokens=rows["t"]), t)
        label = rows.iloc[0]
        every_line.append(
            Line(
                str(label["between"]),
                str(label["revision"]),
                str(label["to_revision"]),
                float(label["tokens"]),
                float(label["to_tokens"]),
                t,
                losses,
                (rows["state"] == "done").to_numpy(dtype=bool),
                _seed(label["seed"]),
                _seed(label["to_seed"]),
            )
        )
    return every_line


def barrier(line: Line) -> Height:
    """Return the highest point over the chord inside the line; below zero where there is none.

    Any position may be the highest, so the test and the interval are those of the rise after a
    selected minimum: the chord takes the place of the last checkpoint.
    """
    excess = line.excess
    rise = contrasts.rise_after_minimum(np.vstack([-excess, np.zeros(excess.shape[1])]))
    t = float(line.t[1:-1][rise.minimum])
    return Height(rise.rise, rise.interval, rise.p_value, 1.0, t)


def gain(line: Line) -> Height:
    """Return how far the loss of the average lies below that of the better end.

    It is better than both only if it is better than each, so the larger p-value counts.
    """
    rise = contrasts.rise_after_minimum(line.average)
    differences = line.average[:2] - line.average[2]
    error = differences.std(axis=1, ddof=1) / np.sqrt(differences.shape[1])
    t = differences.mean(axis=1) / np.maximum(error, 1e-300)
    p = statistics.t_survival(t, differences.shape[1] - 1)
    interval = (-rise.interval[1], -rise.interval[0])
    return Height(-rise.rise, interval, float(p.max()), rise.p_value, 0.5)


def verdicts(table: pd.DataFrame) -> list[Verdict]:
    """Return both claims, each with its summaries first and then a verdict per line."""
    every_line = lines(table)
    if not every_line:
        return []
    judged = [(line, barrier(line), gain(line)) for line in every_line if not line.obstacle]
    result: list[Verdict] = []
    for claim, index in ((BARRIER, 1), (AVERAGE, 2)):
        heights = [cast(Height, entry[index]) for entry in judged]
        p_values = statistics.holm([height.p_value for height in heights])
        opposite = statistics.holm([height.p_opposite for height in heights])
        numbers = iter(zip(heights, p_values, opposite, strict=True))
        single = [
            _undetermined(claim, line)
            if line.obstacle
            else _judged(claim, line, *next(numbers), len(judged))
            for line in every_line
        ]
        result += [*_summaries(every_line, single), *single]
    return result


def _summaries(every_line: Sequence[Line], single: Sequence[Verdict]) -> list[Verdict]:
    """Summarize one claim: over the lines of every run or pair of runs, then over these."""
    runs: dict[str, list[Verdict]] = {}
    for line, verdict in zip(every_line, single, strict=True):
        scope = line.scope.replace(f", {line.between.removeprefix(ALONG)}", "")
        runs.setdefault(line.between, []).append(verdict.model_copy(update={"scope": scope}))
    summaries = []
    for beginning, scope in FAMILIES.items():
        judged = [
            combined_verdicts.over_conditions(group, between.removeprefix(ALONG))
            for between, group in runs.items()
            if between.startswith(beginning)
        ]
        word = "" if scope.startswith("before") else "between "
        if (beginning == ALONG and judged) or judged[1:]:
            summaries.append(combined_verdicts.over_replicates(judged, word + scope))
        elif judged:
            summaries.append(judged[0].model_copy(update={"scope": word + judged[0].scope}))
    return summaries


def _undetermined(claim: str, line: Line) -> Verdict:
    return Verdict(
        claim=claim,
        scope=line.scope,
        answer="undetermined",
        sentence=line.obstacle,
        labels=line.labels,
        draw_name=REPLICATES,
    )


def _judged(
    claim: str, line: Line, height: Height, p_value: float, p_opposite: float, num_lines: int
) -> Verdict:
    """Return the verdict of one line; p-values are corrected over num_lines."""
    answer: Answer = "undetermined"
    if p_value < ALPHA and height.value > 0:
        answer = "yes"
    elif p_opposite < ALPHA or height.interval[1] < SMALLEST:
        answer = "no"
    if claim == BARRIER:
        words = _barrier_words(answer, height)
        effect = "highest loss inside the line minus the chord, nats"
        test = (
            "paired t-tests of every position against the chord, with pooled variance and "
            "corrected for skewness, combined by Simes' method"
        )
    else:
        words = _average_words(answer, line)
        effect = "loss of the better end minus loss of the average, nats"
        test = "paired t-tests of the average against both ends, the larger p-value counts"
    return Verdict(
        claim=claim,
        scope=line.scope,
        answer=answer,
        sentence=words,
        effect=height.value,
        effect_name=effect,
        interval=height.interval,
        p_value=p_opposite if answer == "no" and p_opposite < ALPHA else p_value,
        test=f"{test} (one-sided, Holm-corrected over {counted(num_lines, 'line')}, yes below "
        f"{ALPHA:g}), over {REPLICATES}{METHOD_TEXT}",
        method=METHOD,
        num_draws=line.losses.shape[1],
        draw_name=REPLICATES,
        labels=line.labels,
        x=[line.tokens, line.to_tokens],
        alpha=ALPHA,
        smallest_effect=SMALLEST,
        evidence=_evidence(line, height),
    )


def _barrier_words(answer: Answer, height: Height) -> str:
    low, high = height.interval
    if answer == "no" and height.value < 0:
        return (
            "No barrier: the loss lies below the chord between its ends, at the highest point by "
            f"{-height.value:.4f} nats (95% CI: {-high:.4f} to {-low:.4f}), at t = {height.t:g}."
        )
    size = f"{height.value:+.4f} nats (95% CI: {low:+.4f} to {high:+.4f}) at t = {height.t:g}"
    return {
        "yes": f"The loss on the line rises over the chord between its ends: by {size}.",
        "no": f"No barrier of {SMALLEST:g} nats or more: the highest point is {size} over the "
        "chord.",
        "undetermined": f"The highest point is {size} over the chord, which is not significant, "
        f"and {SMALLEST:g} nats are not ruled out.",
    }[answer]


def _average_words(answer: Answer, line: Line) -> str:
    first, last, middle = line.average.mean(axis=1)
    losses = f"{middle:.4f} nats against {first:.4f} and {last:.4f} at the ends"
    return {
        "yes": f"The average of the weights is better than both ends: {losses}.",
        "no": f"The average of the weights is not better than both ends: {losses}.",
        "undetermined": f"Whether the average is better than both ends is undetermined: {losses}.",
    }[answer]


def _evidence(line: Line, height: Height) -> dict[str, Any]:
    return {
        "t": line.t.tolist(),
        "loss": line.losses.mean(axis=1).tolist(),
        "highest_at": height.t,
    }
