"""The figures at each checkpoint's best learning rate: forgetting, the new task, Pareto fronts.

    figures(prepared(table), design)   # {"tuned_forgetting": Figure, "tuned_learned": ..., ...}

Empty with a single learning rate.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ucurve.analysis import tuned_rate_rows
from ucurve.analysis.fine_tuning import Design
from ucurve.analysis.tuned_rate_sweeps import sweeps
from ucurve.figures import charts, sweep_charts
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.colours import LineEncoding
from ucurve.schemas.results import Figure

if TYPE_CHECKING:
    import pandas as pd

curves = partial(charts.curves, row="replicate", column="evaluation")
fronts = partial(sweep_charts.fronts, row="replicate", column="evaluation")
LINE = LineEncoding("line", "", ["best learning rate"], ordered=False)
CHOICE = (
    "Every checkpoint at its own best learning rate, chosen on half of the seeds and judged on the "
    "other half, both ways round, mean over all splits: no luck of the choice is in it. Band: 95% "
    "interval over seeds, choice included"
)
TASK = {"id_loss": "loss on the new task / nats", "accuracy": "error rate on the new task"}


def figures(table: pd.DataFrame, design: Design) -> dict[str, Figure]:
    """Return the figures by name, of the first method."""
    if len(design.rates) < 2:
        return {}
    swept = sweeps(table, design, design.methods[0])
    task = TASK[design.metric]
    name = task.split(" / ")[0]
    forgetting = Axis("y", "forgetting / nats", "symlog", constant=0.01)
    return {
        "tuned_forgetting": Figure(
            "Forgetting at the best learning rate",
            f"Loss after fine-tuning minus loss before. {CHOICE}, and the intervals at all rates "
            "that may be the best.",
            curves(tokens_axis(), forgetting, LINE, zero_line=True),
            {"curves": tuned_rate_rows.best_rate_curve(swept, "retention")},
        ),
        "tuned_learned": Figure(
            f"{name[:1].upper()}{name[1:]} at the best learning rate",
            f"On validation data. {CHOICE}.",
            curves(tokens_axis(), Axis("y", task), LINE),
            {"curves": tuned_rate_rows.best_rate_curve(swept, "task")},
        ),
        "pareto_fronts": Figure(
            "Pareto fronts with bands",
            f"The lowest loss on pre-training text that the learning rates of a checkpoint keep at "
            f"a given {name}. Points: rates on the front. Band of a checkpoint: holds its whole "
            "true front in at least 95% of experiments, whichever rates are on it (simultaneous "
            "intervals of both axes at all rates over seeds; on these texts); it is open above "
            "where no rate reaches that value for certain.",
            fronts(Axis("x", task), Axis("y", "loss on pre-training text / nats")),
            {"curves": tuned_rate_rows.front_rows(swept, design.rates)},
        ),
    }
