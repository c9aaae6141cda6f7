"""Old names of client methods and properties, kept for one release."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any


def deprecated_method(old: str, new: str) -> Callable[..., Any]:
    """Return a method `old` that warns and calls the method `new`."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        warn_renamed(f"Client.{old}()", f"Client.{new}()")
        return getattr(self, new)(*args, **kwargs)

    method.__name__ = old
    method.__doc__ = f"Deprecated: use `{new}`."
    return method


def deprecated_property(old: str, new: str) -> property:
    """Return a property `old` that warns and returns the attribute `new`."""

    def read(self: Any) -> Any:
        owner = type(self).__name__
        warn_renamed(f"{owner}.{old}", f"{owner}.{new}")
        return getattr(self, new)

    return property(read, doc=f"Deprecated: use `{new}`.")


def warn_renamed(old: str, new: str) -> None:
    """Warn the caller's caller that `old` is now called `new`."""
    warnings.warn(f"{old} is deprecated: use {new}", DeprecationWarning, stacklevel=3)
