"""Deprecated names of the Python client still work and warn."""

from __future__ import annotations

from typing import Any

import pytest

import ucurve.client
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError
from ucurve.client.comparisons import Comparison


class RecordingClient(Client):
    """A client whose requests are recorded instead of sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, Any]]] = []

    def _request(self, method: str, path: str, repeat: bool = False, **options: Any) -> Any:
        self.requests.append((method, path, options))
        return []


@pytest.mark.parametrize(
    ("old", "new"),
    [("RefusedError", RequestRejectedError), ("NoAnswerError", ApiUnavailableError)],
)
def test_deprecated_exception_names_return_the_new_class_and_warn(old: str, new: type) -> None:
    with pytest.warns(DeprecationWarning, match=new.__name__):
        assert getattr(ucurve.client, old) is new


def test_an_unknown_name_of_the_client_module_raises_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = ucurve.client.Nothing  # type: ignore[attr-defined]


def test_a_deprecated_method_calls_the_new_one_and_warns() -> None:
    client = RecordingClient()
    with pytest.warns(DeprecationWarning, match=r"Client\.webhook_deliveries"):
        assert client.notices(7) == []
    assert client.requests == [("GET", "/v1/experiments/7/notices", {})]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("choices", "filter_options"),
        ("notices", "webhook_deliveries"),
        ("found_table", "export_points"),
        ("origins", "experiment_provenance"),
        ("side", "compared_experiment"),
        ("measured_on", "measurement_settings"),
    ],
)
def test_every_renamed_method_has_an_alias(old: str, new: str) -> None:
    assert getattr(Client, old).__doc__ == f"Deprecated: use `{new}`."
    assert callable(getattr(Client, new))


@pytest.mark.parametrize(("old", "new"), [("cautions", "warnings"), ("asked", "requested")])
def test_renamed_properties_of_a_comparison_warn(old: str, new: str) -> None:
    comparison = Comparison([], None, [{"stride": 64}])  # type: ignore[arg-type]
    with pytest.warns(DeprecationWarning, match=rf"Comparison\.{new}"):
        assert getattr(comparison, old) == getattr(comparison, new)


def test_the_deprecated_argument_fresh_sends_the_same_request_as_remeasure() -> None:
    client, spec = RecordingClient(), {"kind": "linear_model"}
    with pytest.raises(ValueError, match="PlanPreview"):  # the recorded answer is empty
        client.plan(spec, remeasure=True)
    with pytest.warns(DeprecationWarning, match="remeasure="), pytest.raises(ValueError):
        client.plan(spec, fresh=True)
    (_, _, new), (_, _, old) = client.requests
    assert new == old
    assert new["json"]["fresh"] is True
