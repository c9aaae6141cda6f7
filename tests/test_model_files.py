"""Configs and headers of checkpoints: compared before anything is built; odd ones end in words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from test_suites import write_model
from tiny_model import model_of

from ucurve.modeling import checkpoints
from ucurve.modeling.checkpoints import CheckpointError, load, save
from ucurve.registry import hashing
from ucurve.registry.suites import Checkpoint, Location
from ucurve.registry.tensors.model_files import RegistrationError, parse_header, read_config


def checkpoint(folder: Path) -> Checkpoint:
    location = Location(scheme="path", path=str(folder))
    return Checkpoint(suite="s", revision="r", location=location)


DEMANDS: list[dict[str, Any]] = [
    {"vocab_size": 4_000_000},
    {"hidden_size": 1_000_000},
    {"intermediate_size": 1_000_000},
    {"num_hidden_layers": 1_000_000},
    {"vocab_size": 1_000_000, "hidden_size": 1_000_000},
]


@pytest.mark.parametrize("demand", DEMANDS, ids=str)
def test_a_config_that_asks_for_more_than_the_files_hold_is_refused_before_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demand: dict[str, Any]
) -> None:
    save(model_of(), tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    honest = json.loads(config.read_text())
    assert hashing.resolve(checkpoint(config.parent), config.parent).unresolved is None
    config.write_text(json.dumps({**honest, **demand}))
    resolved = hashing.resolve(checkpoint(config.parent), config.parent)
    assert "config.json asks for" in (resolved.unresolved or "")

    def built(*args: object) -> None:
        raise AssertionError("the worker built the model")

    monkeypatch.setattr(checkpoints, "build", built)
    with pytest.raises(CheckpointError, match=r"config\.json asks for"):
        load(checkpoint(config.parent), "cpu", tmp_path)


@pytest.mark.parametrize(
    "demand", [{"num_hidden_layers": 6}, {"max_position_embeddings": 2**28, "model_type": "gptj"}]
)
def test_what_names_do_not_show_is_found_on_a_model_without_memory(
    tmp_path: Path, demand: dict[str, Any]
) -> None:
    save(model_of(), tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    fields = json.loads(config.read_text())
    if demand.get("model_type") == "gptj":  # its table of positions is a buffer: it is not stored
        fields = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "rotary_dim": 8}
        demand = {"model_type": "gptj", "n_positions": 2**28, "n_inner": 16}
    config.write_text(json.dumps({**fields, **demand}))
    with pytest.raises(CheckpointError, match="its config asks for"):
        load(checkpoint(config.parent), "cpu", tmp_path)


def deep(depth: int) -> bytes:
    return b'{"a": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (deep(100_000), "nested too deeply"),
        (b"[1, 2]", "not a JSON object"),
        (b"{", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b'{"vocab_size": -1}', "vocab_size is not a whole number"),
        (b'{"vocab_size": "many"}', "vocab_size is not a whole number"),
        (b'{"hidden_size": 1e400}', "hidden_size is not a whole number"),
        (b'{"num_hidden_layers": true}', "num_hidden_layers is not a whole number"),
        (b" " * 4_000_001, "larger than"),
    ],
    ids=range(9),
)
def test_an_odd_config_ends_in_a_clear_reason_at_registration(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    write_model(tmp_path / "m", 1)
    (tmp_path / "m" / "config.json").write_bytes(content)
    resolved = hashing.resolve(checkpoint(tmp_path / "m"), tmp_path / "m")
    assert reason in (resolved.unresolved or "")
    with pytest.raises(CheckpointError):
        load(checkpoint(tmp_path / "m"), "cpu", tmp_path)


def test_an_absurd_context_counts_as_unknown(tmp_path: Path) -> None:
    for text, context in (("1e400", None), ("true", None), (str(10**30), None), ("512", 512)):
        write_model(tmp_path / "m", 1)
        (tmp_path / "m" / "config.json").write_text(f'{{"max_position_embeddings": {text}}}')
        assert hashing.resolve(checkpoint(tmp_path / "m"), tmp_path / "m").context == context
    assert read_config(io.BytesIO(b'{"n_positions": 8}')) == {"n_positions": 8}


@pytest.mark.parametrize(
    "entry",
    [
        1,
        {"dtype": "F32"},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0]},
        {"dtype": None, "shape": [1], "data_offsets": [0, 4]},
    ],
    ids=str,
)
def test_a_header_with_an_odd_tensor_is_refused(entry: Any) -> None:
    with pytest.raises(RegistrationError, match="header"):
        parse_header(json.dumps({"x": entry}).encode())
    for content in (b"[]", b"[" * 100_000, b"\xff"):
        with pytest.raises(RegistrationError, match="header"):
            parse_header(content)
