"""The Python client: everything over the REST API, rows as records and tables as pandas frames.

client = Client()                                         # UCURVE_URL, or http://127.0.0.1:8000
experiment = client.submit({"kind": "linear_model"}, name="first")
client.wait(experiment.id, lambda now: print(now.progress.done, "of", now.progress.total))
client.table(experiment.id).groupby("k")["mse"].mean()    # a frame: one row per measured point
client.figures(experiment.id)["8_loss_fixed_noise"].vega_lite()  # data included
"""

from __future__ import annotations

from ucurve.client.catalogue import CatalogueCalls
from ucurve.client.comparisons import ComparisonCalls
from ucurve.client.explorer import ExplorerCalls
from ucurve.client.http import ClientError, NoAnswerError, RefusedError, field_name
from ucurve.client.import_export import ExchangeCalls
from ucurve.client.references import ReferenceCalls
from ucurve.client.results import ResultCalls
from ucurve.client.reuse import ReuseCalls
from ucurve.client.users import PeopleCalls

__all__ = ["Client", "ClientError", "NoAnswerError", "RefusedError", "field_name"]


class Client(
    ComparisonCalls,
    ResultCalls,
    CatalogueCalls,
    PeopleCalls,
    ExchangeCalls,
    ReuseCalls,
    ExplorerCalls,
    ReferenceCalls,
):
    """A connection to one lab. Reads are repeated while the API restarts; a submission is never sent twice."""
