"""Old names in the contract of experiment types, kept for one release with a warning."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that `old` is now called `new`; stacklevel 3 is the caller's caller."""
    warnings.warn(f"{old} is deprecated: use {new}", DeprecationWarning, stacklevel=stacklevel)


class RenamedAttribute:
    """Descriptor that reads a class or instance attribute under its old name."""

    def __init__(self, new: str) -> None:
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self.old = name

    def __get__(self, instance: Any, owner: type) -> Any:
        warn_renamed(f"{owner.__name__}.{self.old}", f"{owner.__name__}.{self.new}")
        return getattr(owner if instance is None else instance, self.new)


def renamed_arguments(names: Mapping[str, str]) -> Callable[[type[T]], type[T]]:
    """Return a decorator of a class whose constructor also takes old names of its arguments.

    names: old to new.
    """

    def decorate(cls: type[T]) -> type[T]:
        initialise = cls.__init__

        @wraps(initialise)
        def init(self: T, *args: Any, **kwargs: Any) -> None:
            for old in names.keys() & kwargs.keys():
                warn_renamed(f"{cls.__name__}({old}=...)", f"{cls.__name__}({names[old]}=...)")
                kwargs[names[old]] = kwargs.pop(old)
            initialise(self, *args, **kwargs)

        cls.__init__ = init  # type: ignore[method-assign, assignment]
        return cls

    return decorate


def adopt_old_names(cls: type, names: Mapping[str, str]) -> None:
    """Copy what a class itself defines under old names to the new names, with a warning.

    names: old to new; annotated class variables, methods and class methods.
    """
    for old, new in names.items():
        if old in vars(cls) and new not in vars(cls):
            warn_renamed(f"{cls.__name__}.{old}", f"{cls.__name__}.{new}", stacklevel=5)
            setattr(cls, new, vars(cls)[old])


def adapt_figures(cls: type) -> None:
    """Let figures() take verdicts where a class defines it with the table only, with a warning."""
    draw = vars(cls).get("figures")
    if draw is None or len(inspect.signature(draw).parameters) > 2:
        return
    warnings.warn(
        f"{cls.__name__}.figures(table) is deprecated: define figures(table, verdicts=())",
        DeprecationWarning,
        stacklevel=4,
    )

    @wraps(draw)
    def figures(self: Any, table: Any, verdicts: Any = ()) -> Any:
        return draw(self, table)

    cls.figures = figures  # type: ignore[attr-defined]
