"""A cache of charts by their arguments."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

P = ParamSpec("P")


MAX_CHARTS = 200  # per kind of chart


def memoize_chart(draw: Callable[P, dict[str, Any]]) -> Callable[P, dict[str, Any]]:
    """Cache charts by their arguments: Altair takes a third of a second per chart.

    At most MAX_CHARTS: titles and axes come from the data of any experiment.
    """
    drawn: OrderedDict[str, str] = OrderedDict()

    @wraps(draw)
    def again(*args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        key = repr((args, sorted(kwargs.items())))
        text = drawn.pop(key, None) or json.dumps(draw(*args, **kwargs))
        drawn[key] = text  # the last one used is the last one dropped
        while len(drawn) > MAX_CHARTS:
            drawn.popitem(last=False)
        chart: dict[str, Any] = json.loads(text)
        return chart

    return again
