"""Checkpoints: written atomically, verified by hash, and loaded without running foreign code."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ucurve.modeling import checkpoints
from ucurve.modeling.checkpoints import CheckpointError, load, save
from ucurve.registry.artifacts import LocationError, folder_of
from ucurve.registry.hashing import resolve
from ucurve.registry.suites import Checkpoint, Location


@pytest.fixture
def model() -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 32,
    }
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=40, max_position_embeddings=16, **shape))


@pytest.fixture
def saved(model: GPTNeoXForCausalLM, tmp_path: Path) -> Checkpoint:
    hashes = save(model, tmp_path / "suites/mine/step7")
    location = Location(scheme="artefacts", path="suites/mine/step7")
    return Checkpoint(suite="mine", revision="step7", location=location, **asdict(hashes))


def test_a_saved_model_loads_to_the_same_bits_and_hashes_as_registration_would(
    model: GPTNeoXForCausalLM, saved: Checkpoint, tmp_path: Path
) -> None:
    loaded = load(saved, "cpu", tmp_path).model
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert not loaded.training
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert resolve(saved, tmp_path / "suites/mine/step7") == saved
    assert (
        asdict(save(model, tmp_path / "suites/mine/step7")).items() <= saved.model_dump().items()
    ), "saving again changes nothing"
    assert [entry.name for entry in (tmp_path / "suites/mine").iterdir()] == ["step7"], (
        "nothing temporary is left"
    )


def test_half_precision_weights_are_loaded_as_fp32(
    model: GPTNeoXForCausalLM, tmp_path: Path
) -> None:
    save(model.half(), tmp_path / "half")
    config = json.loads((tmp_path / "half/config.json").read_text())
    (tmp_path / "half/config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    loaded = load(_at(tmp_path / "half"), "cpu", tmp_path).model
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_changed_weights_are_refused_with_the_reason(saved: Checkpoint, tmp_path: Path) -> None:
    load(saved, "cpu", tmp_path)
    file = tmp_path / "suites/mine/step7/model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"weights in .*step7 changed: sha256 .* instead of"):
        load(saved, "cpu", tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "remote code"),
        ({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}, "remote code"),
        ({"model_type": "evil"}, "cannot be loaded"),
        ({"hidden_size": 24}, "asks for"),
        ({"num_hidden_layers": 2}, "asks for"),
    ],
)
def test_a_config_that_asks_for_foreign_code_or_other_weights_is_refused(
    model: GPTNeoXForCausalLM, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    folder = tmp_path / "evil"
    save(model, folder)
    (folder / "evil.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Model: ...\nclass Config: ...\n"
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=reason):
        load(_at(folder), "cpu", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_name_of_a_repository_as_attention_is_not_followed(
    model: GPTNeoXForCausalLM, tmp_path: Path
) -> None:
    save(model, tmp_path / "kernel")
    path = tmp_path / "kernel/config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "_attn_implementation": "owner/kernels"})
    )
    assert (
        load(_at(tmp_path / "kernel"), "cpu", tmp_path).model.config._attn_implementation == "sdpa"
    )


def test_a_pickle_is_read_as_tensors_and_nothing_else(
    model: GPTNeoXForCausalLM, tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    save(model, folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    loaded = load(_at(folder), "cpu", tmp_path).model
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"lm_head.weight": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(_at(folder), "cpu", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_cut_off_file_is_refused_in_words(saved: Checkpoint, tmp_path: Path) -> None:
    file = tmp_path / "suites/mine/step7/model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(_at(file.parent), "cpu", tmp_path)


def test_locations_cannot_leave_their_root(tmp_path: Path) -> None:
    (tmp_path / "root" / "suites").mkdir(parents=True)
    (tmp_path / "root" / "link").symlink_to("/etc")
    (tmp_path / "root" / "inside").symlink_to("suites")
    for scheme in ("builtin", "artefacts"):
        outside = Location(scheme=scheme, path="../../etc")
        with pytest.raises(LocationError, match="outside"):
            folder_of(outside, tmp_path / "root")
        with pytest.raises(CheckpointError, match="outside"):
            checkpoints.local_copy(outside, tmp_path / "root")
    with pytest.raises(LocationError, match="outside"):
        folder_of(Location(scheme="artefacts", path="link"), tmp_path / "root")
    inside = folder_of(Location(scheme="artefacts", path="inside"), tmp_path / "root")
    assert inside == tmp_path / "root" / "suites"


def _at(folder: Path) -> Checkpoint:
    return Checkpoint(
        suite="s", revision=folder.name, location=Location(scheme="path", path=str(folder))
    )
