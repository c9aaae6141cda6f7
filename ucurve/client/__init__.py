"""The Python client of the REST API: rows as records, tables as pandas frames.

client = Client()                                         # UCURVE_URL, or http://127.0.0.1:8000
experiment = client.submit({"kind": "linear_model"}, name="first")
client.wait(experiment.id, lambda e: print(e.progress.done, "of", e.progress.total))
client.table(experiment.id).groupby("k")["mse"].mean()    # a frame: one row per evaluation
client.figures(experiment.id)["8_loss_fixed_noise"].vega_lite()  # data included
"""

from __future__ import annotations

from typing import Any

from ucurve.client.audit import AuditResource
from ucurve.client.catalogue import CatalogueResource
from ucurve.client.comparisons import ComparisonResource
from ucurve.client.deprecation import warn_renamed
from ucurve.client.explorer import ExplorerResource
from ucurve.client.http import (
    ApiUnavailableError,
    ClientError,
    RequestRejectedError,
    field_name,
)
from ucurve.client.import_export import ImportExportResource
from ucurve.client.results import ResultResource
from ucurve.client.status import StatusResource
from ucurve.client.users import UserResource

__all__ = ["ApiUnavailableError", "Client", "ClientError", "RequestRejectedError", "field_name"]

_RENAMED = {"RefusedError": RequestRejectedError, "NoAnswerError": ApiUnavailableError}


class Client(
    ComparisonResource,
    ResultResource,
    CatalogueResource,
    UserResource,
    AuditResource,
    ImportExportResource,
    ExplorerResource,
    StatusResource,
):
    """A connection to a lab. Requests are retried while the API restarts."""


def __getattr__(name: str) -> Any:
    """Return an exception by its deprecated name."""
    if name in _RENAMED:
        warn_renamed(f"ucurve.client.{name}", _RENAMED[name].__name__)
        return _RENAMED[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
