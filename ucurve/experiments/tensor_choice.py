"""Which tensors of a suite's models are changed: checked in the plan, by their stored names.

choice = TensorChoice(suite, "all", include=[], exclude=["*embed_out*"])
choice.check()                        # SpecError for a pattern that matches nothing
choice.groups("current_std")          # those that the model has
choice.parts("current_std")           # "embedding", "layer 0", "layer 1", ..., "unembedding"
choice.inputs(None)                   # {"protocol": "gaussian/2", "tensors": {...}}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

from ucurve.registry.suites import Suite
from ucurve.registry.tensors.tensor_names import NamedTensor, unexplained
from ucurve.registry.tensors.tensor_selection import (
    GROUPS,
    Selection,
    group_of,
    groups_in,
    matching,
    nearest,
    parts_in,
    protocol,
)
from ucurve.spec import SpecError

USUAL = ("embedding", "attention", "mlp", "norm", "unembedding")  # where the names are not known
NOUNS = {
    "mlp": "MLP",
    "norm": "norm with weights",
    "unembedding": "unembedding of its own (the embedding serves as both)",
}


class TensorChoice:
    """The tensors that patterns and groups select of the models of a suite."""

    def __init__(
        self,
        suite: Suite,
        which: Literal["all", "matrices"],
        include: Sequence[str],
        exclude: Sequence[str],
    ) -> None:
        self.suite, self.which = suite, which
        self.include, self.exclude = sorted(set(include)), sorted(set(exclude))
        self._patterns = {"include": include, "exclude": exclude}  # in the order of the spec
        hashes = {c.layout_sha256 for c in suite.checkpoints if c.layout_sha256}
        self._layouts = [suite.layouts[sha] for sha in sorted(hashes & suite.layouts.keys())]

    @cached_property
    def tensors(self) -> list[NamedTensor]:
        """The parameters of the suite's model; empty where no file tells their names."""
        named = {t.canonical: t for layout in self._layouts for t in layout.parameters}
        return list(named.values())

    def check(self) -> None:
        """Raise SpecError where noise cannot be added by name, or a pattern matches nothing."""
        if self.suite.unexplained:
            raise SpecError("suite", f"{unexplained(self.suite.unexplained)}.")
        if not self.tensors:
            return
        for field, patterns in self._patterns.items():
            for position, pattern in enumerate(patterns):
                if not any(matching([pattern], tensor) for tensor in self.tensors):
                    raise SpecError(f"{field}/{position}", self._no_match(pattern))
        if not self._selection(None).of(self.tensors, 2):
            field = "exclude" if self.exclude else "include"
            raise SpecError(
                field,
                f"No tensor of {self.suite.name!r} is left to perturb: change tensors, include or "
                "exclude.",
            )

    def expect_matrices(self) -> None:
        """Raise SpecError where no matrix is left, whose displacement could be matched."""
        if self.tensors and not self._noisy(None, "matched_displacement"):
            raise SpecError(
                "exclude" if self.exclude else "include",
                f"No matrix of {self.suite.name!r} is left, and matched_displacement perturbs "
                "matrices only: change include, exclude or scale.",
            )

    def _no_match(self, pattern: str) -> str:
        names = nearest(pattern, self.tensors)
        return (
            f"{pattern!r} matches none of the {len(self.tensors)} tensors of "
            f"{self.suite.name!r}. The nearest names are {', '.join(names)}; * stands for any "
            "letters."
        )

    def groups(self, scale: str) -> list[str]:
        """Return the groups to perturb separately: those with tensors that get noise."""
        # Norms are constant at initialisation, so that their init_std is 0.
        no_norms = self.which == "matrices" or scale in ("init_std", "matched_displacement")
        present = groups_in(self._noisy(None, scale)) if self.tensors else USUAL
        return [group for group in present if not (no_norms and group == "norm")]

    def _noisy(self, group: str | None, scale: str) -> list[NamedTensor]:
        """Return the tensors of a group that may get noise under a noise scale."""
        which = "matrices" if scale == "matched_displacement" else self.which
        return list(replace(self._selection(group), which=which).of(self.tensors, 2).values())

    def parts(self, scale: str) -> list[str]:
        """Return the parts to perturb separately, by depth: those with tensors that get noise.

        Raises SpecError where no file tells the layers.
        """
        if not self.tensors:
            raise SpecError(
                "by_layer",
                f"The names of the tensors of {self.suite.name!r} are not known yet, and with them "
                "its layers. Register the suite again where its files can be read, or leave out "
                "by_layer.",
            )
        norms = ("embedding norm", "final norm") if scale == "init_std" else ()
        return [part for part in parts_in(self._noisy(None, scale)) if part not in norms]

    def inputs(self, part: str | None) -> dict[str, Any]:
        """Return the inputs of a point that select the tensors, and the protocol of their noise.

        part: a group, or a part by depth; None for all selected tensors.
        """
        spelled = all(layout.spelled_by_library for layout in self._layouts)
        group = part if part in GROUPS else None
        layer = {} if part in (None, group) else {"part": part}
        chosen = protocol(self._selection(group, layer.get("part")), self.tensors, spelled)
        return {
            "protocol": chosen,
            "tensors": {
                "which": self.which,
                "include": self.include,
                "exclude": self.exclude,
                "group": group,
                **layer,
                # A worker of an earlier release fails here, and draws no noise by other names.
                **({} if chosen == "gaussian/1" else {"names": "canonical"}),
            },
        }

    def matrices(self) -> dict[str, Any]:
        """Return the inputs of a point that select the matrices, by canonical names."""
        return {
            "which": "matrices",
            "include": self.include,
            "exclude": self.exclude,
            "group": None,
            "names": "canonical",
        }

    def layer_warnings(self) -> list[str]:
        """Return what a map over layers cannot show of this model."""
        layers = [part for part in parts_in(self.selected) if part.startswith("layer ")]
        if len(layers) > 1 or not self.tensors:
            return []
        found = "one layer" if layers else "no numbered layer"
        return [
            f"by_layer: {self.suite.name} has {found} among its selected tensors, so that there is "
            "nothing to compare between layers."
        ]

    def warnings(self, by_group: bool) -> list[str]:
        """Return what the plan leaves out or cannot check, each with its field."""
        name = self.suite.name
        if not self.tensors:
            fields = {"include": self.include, "exclude": self.exclude, "by_group": by_group}
            used = " and ".join(field for field, value in fields.items() if value)
            if not used:
                return []
            return [
                f"{used}: the names of the tensors of {name} are not known yet, so that a worker "
                "finds out what is selected. Register the suite again where its files can be read."
            ]
        if not by_group:
            return []
        present = groups_in(self.tensors)
        missing = [NOUNS.get(group, group) for group in USUAL if group not in present]
        other = [t.canonical for t in self.tensors if group_of(t) == GROUPS[-1]]
        messages = []
        if missing:
            messages.append(
                f"by_group: {name} has no {' and no '.join(missing)}; that is not planned."
            )
        if other:
            messages.append(
                f"by_group: {len(other)} tensors of {name} belong to no known part, such as "
                f"{other[0]}; they are planned as the group “other”."
            )
        return messages

    @property
    def selected(self) -> list[NamedTensor]:
        """The selected parameters; empty where no file tells their names."""
        return list(self._selection(None).of(self.tensors, 2).values())

    def _selection(self, group: str | None, part: str | None = None) -> Selection:
        return Selection(self.which, self.include, self.exclude, group, part)
