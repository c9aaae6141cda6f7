"""The experiment types: every Spec with a `kind` that a module of this package defines.

    parse({"kind": "gaussian_perturbation", "suite": "tiny", "gammas": [0.1], "draws": 5})

Modules are discovered at import. Folders in UCURVE_KINDS (separated like PATH) are searched too,
for experiment types outside this package.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Annotated, Any, Union

from pydantic import Field

from ucurve.settings import settings
from ucurve.spec import Spec

__path__ = [*__path__, *settings().kind_folders]


@cache
def kinds() -> dict[str, type[Spec]]:
    """Return every experiment type by name, sorted by `order`, then name."""
    types: dict[str, type[Spec]] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for value in vars(importlib.import_module(f"{__name__}.{module}")).values():
            if (
                isinstance(value, type)
                and issubclass(value, Spec)
                and value.__module__ == f"{__name__}.{module}"
                and "kind" in value.__annotations__  # a base of kinds has none
            ):
                name = value.model_fields["kind"].default
                assert isinstance(name, str), f"{value.__name__}.kind needs a default: its own name"
                types[name] = value
    return dict(sorted(types.items(), key=lambda kind: (kind[1].order, kind[0])))


def parse(spec: dict[str, Any]) -> Spec:
    """Return the validated spec.

    Raises pydantic.ValidationError, or ValueError when the kind is unknown.
    """
    kind = spec.get("kind")
    if kind not in kinds():
        raise ValueError(f"kind must be one of {', '.join(kinds())}; got {kind!r}")
    return kinds()[kind].model_validate(spec)


@cache
def union() -> Any:
    """Return the union of all experiment types, discriminated by `kind`, for the API."""
    specs = tuple(kinds().values())
    return Annotated[Union[specs], Field(discriminator="kind")] if len(specs) > 1 else specs[0]  # noqa: UP007
