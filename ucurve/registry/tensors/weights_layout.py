"""Which files of a folder hold its weights: what the index of a save names, and nothing beside it.

A folder that was saved into twice holds files of both saves. transformers then loads
model.safetensors, although the index beside it names newer shards: here the index decides.

>>> weights_layout(["model.safetensors", "config.json"], read=None).weights
['model.safetensors']
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from ucurve.registry.tensors.stored_tensor import RegistrationError, Tensor

FORMATS = (("model", ".safetensors"), ("pytorch_model", ".bin"))  # the first is preferred
MAX_INDEX_BYTES = 25_000_000


class Layout(NamedTuple):
    """The files with the weights of a checkpoint."""

    weights: list[str]  # sorted
    placed: Mapping[str, str] | None = None  # the file of each tensor, where an index names it
    remarks: tuple[str, ...] = ()


def weights_layout(names: Collection[str], read: Callable[[str], bytes] | None) -> Layout:
    """Return the files with the weights; none where there are none under their usual names.

    Args:
        names: of the files in the folder.
        read: returns the content of one of them, an index of shards.

    Raises:
        RegistrationError: an index and the files contradict each other.
    """
    remarks: tuple[str, ...] = ()
    for stem, end in FORMATS:
        layout = _of_format(names, read, stem, end)
        remarks += layout.remarks
        if layout.weights:
            return layout._replace(remarks=remarks)
    return Layout([], remarks=remarks)


def _of_format(
    names: Collection[str], read: Callable[[str], bytes] | None, stem: str, end: str
) -> Layout:
    single, index_name = f"{stem}{end}", f"{stem}{end}.index.json"
    pattern = re.compile(rf"{stem}-\d+-of-\d+{re.escape(end)}")
    numbered = sorted(name for name in names if pattern.fullmatch(name))
    if index_name not in names or read is None:
        if single in names:
            return Layout([single], remarks=_ignored(numbered, f"{single} is read"))
        _expect_all(numbered)
        return Layout(numbered)
    index = _index(read(index_name), index_name, end)
    shards = sorted(set(index.values()))
    missing = [name for name in shards if name not in names]
    others = [name for name in (single, *numbered) if name in names and name not in shards]
    if not missing:
        reason = f"the shards that {index_name} names are read"
        return Layout(shards, index, _ignored(others, reason))
    if len(missing) < len(shards):
        raise RegistrationError(
            f"{len(shards) - len(missing)} of {len(shards)} shards that {index_name} names are "
            f"present: copy {missing[0]}, or remove {index_name} and the shards where another file "
            "holds the weights"
        )
    if single in names:
        shown = f"{index_name} names {missing[0]}, which is not there: {single} is read"
        return Layout([single], remarks=(shown,))
    return Layout([], remarks=(f"{index_name} names {missing[0]}, which is not there",))


def _ignored(others: list[str], reason: str) -> tuple[str, ...]:
    """Return the remark about files of another save, if there are any."""
    if not others:
        return ()
    more = f" and {len(others) - 1} more" if others[1:] else ""
    return (
        f"{reason}, and {others[0]}{more} of another save {'are' if more else 'is'} ignored: "
        "remove what is old",
    )


def _expect_all(shards: list[str]) -> None:
    """Raise RegistrationError unless all shards of names like model-00001-of-00003.safetensors are
    present.
    """
    counts = {int(name.rpartition("-of-")[2].partition(".")[0]) for name in shards}
    if len(counts) > 1:
        raise RegistrationError(
            f"shards of several saves ({shards[0]}, {shards[-1]}) and no index: remove the old ones"
        )
    if counts and counts != {len(shards)}:
        raise RegistrationError(f"{len(shards)} of {counts.pop()} weight shards are present")


def _index(content: bytes, name: str, end: str) -> dict[str, str]:
    """Return the file of each tensor from the content of an index. Raises RegistrationError."""
    if len(content) > MAX_INDEX_BYTES:
        raise RegistrationError(f"{name} is larger than {MAX_INDEX_BYTES // 10**6} MB")
    try:
        index: Any = json.loads(content)["weight_map"]
        files = set(index.values())
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise RegistrationError(f"{name} is not an index of shards") from error
    for file in files:
        if (
            not isinstance(file, str)
            or not file.endswith(end)
            or not re.fullmatch(r"[\w.-]+", file)
        ):
            raise RegistrationError(f"{name} names {file!r}, which is not a file beside it")
    if not files:
        raise RegistrationError(f"{name} names no file")
    return dict(index)


def merged(
    shards: Mapping[str, Mapping[str, Tensor]], index: Mapping[str, str] | None = None
) -> dict[str, Tensor]:
    """Return the tensors of all shards by name.

    Raises RegistrationError where two shards hold the same tensor, or an index names one that its
    shard lacks: they come from different saves.
    """
    tensors: dict[str, Tensor] = {}
    files: dict[str, str] = {}
    for file, stored in shards.items():
        for name, tensor in stored.items():
            if name in tensors:
                raise RegistrationError(
                    f"{files[name]} and {file} both hold {name}: the shards are of several saves"
                )
            tensors[name], files[name] = tensor, file
    absent = [name for name, file in (index or {}).items() if files.get(name) != file]
    if absent:
        raise RegistrationError(
            f"the index of the shards places {absent[0]} in {(index or {})[absent[0]]}, which "
            "does not hold it: the shards are of another save"
        )
    return tensors
