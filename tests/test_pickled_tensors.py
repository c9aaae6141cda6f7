"""Files of torch.save: names, shapes and types are read as data, and nothing in them is run."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_hub import FakeHub, serving
from safetensors.torch import save_file
from test_gaussian_perturbation import Catalogue
from tiny_model import model_of
from torch import _weights_only_unpickler as torch_pickles

from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.modeling.checkpoints import save
from ucurve.registry import hashing, hub
from ucurve.registry.suites import Checkpoint, Location, Suite
from ucurve.registry.tensors.model_files import (
    RegistrationError,
    count_parameters,
    stored_tensors,
)
from ucurve.registry.tensors.pickle_machine import ALLOWED

TIED = torch.arange(12.0).reshape(3, 4)
TENSORS: dict[str, torch.Tensor] = {
    "embed.weight": TIED,
    "layers.0.w": torch.arange(12, dtype=torch.float16).reshape(4, 3),
    "layers.0.b": torch.zeros(5, dtype=torch.bfloat16),
    "layers.0.narrow": torch.arange(10.0)[2:5],
    "layers.0.fp8": torch.zeros(2, dtype=torch.float8_e4m3fn),
    "step": torch.tensor(7),
    "mask": torch.ones((1, 2), dtype=torch.bool),
    "none": torch.zeros((0, 3)),
}
FORMATS = [True, False]


def saved(value: Any, zipped: bool = True, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped, **options)
    file.seek(0)
    return file


@pytest.mark.parametrize("zipped", FORMATS)
def test_names_shapes_types_and_bytes_are_those_that_torch_loads(
    tmp_path: Path, zipped: bool
) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(saved(OrderedDict(TENSORS), zipped).getvalue())
    with path.open("rb") as file:
        pickled = stored_tensors(file, path.name)
    save_file(TENSORS, tmp_path / "model.safetensors")
    with (tmp_path / "model.safetensors").open("rb") as file:
        header = stored_tensors(file, "model.safetensors")
    content, same = path.read_bytes(), (tmp_path / "model.safetensors").read_bytes()
    assert list(pickled) == list(TENSORS)
    assert pickled.keys() == header.keys()
    for name, tensor in pickled.items():
        other = header[name]
        assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape), name
        assert tensor.stride is None
        assert content[tensor.start : tensor.end] == same[other.start : other.end], name


@pytest.mark.parametrize("zipped", FORMATS)
def test_transposed_and_tied_tensors_and_parameters_say_so(zipped: bool) -> None:
    model = torch.nn.Linear(3, 4)
    values = {"a": TIED, "b": TIED, "c": TIED.t(), "w": model.weight, "d": TIED[:, 1:]}
    tensors = stored_tensors(saved(values, zipped), "x.bin")
    assert tensors["b"].alias_of == "a"
    assert (tensors["c"].shape, tensors["c"].stride) == ((4, 3), (1, 4))
    assert (tensors["d"].shape, tensors["d"].stride) == ((3, 3), (4, 1))
    assert tensors["w"].shape == (4, 3)
    assert count_parameters(tensors) == 12 + 12 + 12 + 9  # what is tied counts once


@pytest.mark.parametrize("zipped", FORMATS)
def test_what_trainers_save_of_modules_and_views_is_read_as_torch_reads_it(zipped: bool) -> None:
    """State dicts carry `_metadata` (pytorch/pytorch, module.py); parameters carry attributes
    (microsoft/DeepSpeed); views share one large storage (huggingface/safetensors, shared tensors);
    an expanded mask repeats one row.
    """
    module = torch.nn.Linear(3, 4)
    module.weight.ds_id = 7  # type: ignore[attr-defined]
    large = torch.arange(100.0)
    values: dict[str, Any] = OrderedDict(module.state_dict())
    values |= {"p": module.weight, "x": large[10:20], "y": large[50:60]}
    values |= {"mask": torch.ones(1, 4).expand(3, 4), "half": TIED.bfloat16()[:, ::2]}
    tensors = stored_tensors(saved(values, zipped), "x.bin")
    loaded = torch.load(saved(values, zipped), weights_only=True)
    for name, value in loaded.items():
        tensor = tensors[name]
        assert (tensor.shape, tensor.stride or value.contiguous().stride()) == (
            tuple(value.shape),
            value.stride(),
        ), name
    assert tensors["y"].start != tensors["x"].start
    assert (tensors["mask"].stride, tensors["half"].stride) == ((0, 1), (4, 2))


def test_what_the_machine_accepts_torch_accepts_too() -> None:
    assert not ALLOWED - torch_pickles._get_allowed_globals().keys()


class Arguments:
    """What a trainer saves beside its weights."""


@pytest.mark.parametrize("zipped", FORMATS)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"model": {"w": TIED}, "optimizer": {"m": TIED}}, "under 'model' alone"),
        ({"state_dict": {"w": TIED}, "epoch": 3}, "under 'state_dict' alone"),
        ({"w": TIED, "args": Arguments()}, "an object of test_pickled_tensors.Arguments"),
        (torch.nn.Linear(2, 2), "an object of torch.nn.modules.linear.Linear"),
        ([TIED], "does not hold tensors by name"),
        ({"w": TIED, "epoch": 3}, "'epoch'"),
        (TIED, "does not hold tensors by name"),
        # pytorch/pytorch, what people put beside or in place of a state_dict
        ({"module": {"w": TIED}, "ds_version": "0.9"}, "under 'module' alone"),
        ({"w": TIED, "buffer": None}, "['buffer'] that are no tensors"),
        ({0: TIED, 1: TIED}, "numbers its tensors, such as 0"),
        ({}, "holds no tensors"),
        ([("w", TIED)], "does not hold tensors by name"),
        ({"w": TIED.to_sparse()}, "an object of torch._utils._rebuild_sparse_tensor"),
    ],
    ids=range(13),
)
def test_files_of_more_than_tensors_are_refused_with_what_to_save(
    value: Any, reason: str, zipped: bool
) -> None:
    with pytest.raises(RegistrationError, match="save") as refusal:
        stored_tensors(saved(value, zipped), "pytorch_model.bin")
    assert reason in str(refusal.value)


def test_a_newer_protocol_that_torch_does_not_read_as_tensors_is_refused() -> None:
    with pytest.raises(RegistrationError, match="torch does not read as plain tensors"):
        stored_tensors(saved({"w": TIED}, pickle_protocol=4), "pytorch_model.bin")


def cut(content: bytes) -> bytes:
    return content[: len(content) - 40]


def compressed(content: bytes) -> bytes:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as before,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after,
    ):
        for entry in before.infolist():
            after.writestr(entry.filename, before.read(entry))
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"PK\x03\x04",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        b"\x80\x02}q\x00.",
        pickle.dumps([1] * 100),
        cut(saved(TENSORS).getvalue()),
        cut(saved(TENSORS, zipped=False).getvalue()),
        compressed(saved(TENSORS).getvalue()),
        b"\x80\x02" + b"(" * 50 + b"t" * 50 + b"." + b"\x80\x02K\x01." * 4,
    ],
    ids=range(10),
)
def test_damaged_files_end_in_words(content: bytes) -> None:
    with pytest.raises(RegistrationError, match=r"x\.bin"):
        stored_tensors(io.BytesIO(content), "x.bin")


@pytest.mark.parametrize("zipped", FORMATS)
def test_memory_and_time_are_planned_alike_for_both_formats(tmp_path: Path, zipped: bool) -> None:
    model = model_of()
    save(model, tmp_path / "safe")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_bytes((tmp_path / "safe/config.json").read_bytes())
    content = saved(model.state_dict(), zipped).getvalue()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(content)
    plans = []
    for name in ("safe", "pickled"):
        location = Location(scheme="path", path=str(tmp_path / name))
        bare = Checkpoint(suite="neox", revision="r", location=location, tokens=10)
        resolved = hashing.resolve(bare, tmp_path / name)
        assert resolved.unresolved is None
        assert resolved.num_parameters == model.num_parameters()
        suite = Suite(name="neox", checkpoints=[resolved])
        spec = GaussianPerturbation(suite="neox", evaluation="tiny-held-out", scale="current_std")
        plans.append(
            [(p.resources, p.estimated_seconds) for p in spec.plan(Catalogue(suites=[suite]))]
        )
    assert plans[0] == plans[1]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_pickle_on_the_hub_is_read_in_parts_or_estimated_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    tensors = {"w": torch.zeros((1_000_000, 2)), "lm_head.weight": torch.zeros((64, 8))}
    files = {
        "config.json": json.dumps({"model_type": "gpt_neox", "torch_dtype": "float32"}).encode(),
        "pytorch_model.bin": saved(tensors).getvalue(),
    }
    fake = FakeHub({"models/a/b": {"main": files}}, ranges=ranges)
    with serving(fake) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        commit = hub.revisions("a/b", tmp_path)["main"]
        location = Location(scheme="hub", path="a/b", commit=commit)
        bare = Checkpoint(suite="b", revision="main", location=location)
        resolved = hub.resolve(bare, tmp_path)
    assert resolved.unresolved is None
    if ranges:
        assert resolved.num_parameters == 2_000_000 + 512
        assert sum(path.startswith("/cdn/") for path, _ in fake.requests) <= 3
    else:
        assert 2_000_512 <= (resolved.num_parameters or 0) < 2_002_000
