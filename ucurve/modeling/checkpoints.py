"""Checkpoints on disk: saved atomically, loaded from a `Location`, verified by hash.

saved = save(model, artefacts / "suites/mine/seed0-step437")
location = Location(scheme="artefacts", path="suites/mine/seed0-step437")
checkpoint = Checkpoint(..., location=location, **asdict(saved))
loaded = load(checkpoint, "cpu", artefacts)   # loaded.model: fp32, eval mode
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from ucurve.registry import hub
from ucurve.registry.artifacts import LocationError, Progress, cached_sha256, no_progress
from ucurve.registry.hub_cache import HubError
from ucurve.registry.suites import Checkpoint, Location, combined_sha256, weights_files

disable_progress_bar()  # type: ignore[no-untyped-call]

FOREIGN_CODE = ("auto_map", "quantization_config")  # config entries that would run remote code


# Two overlapping from_pretrained calls of transformers 5 leave PreTrainedModel.tie_weights patched
# out, because each restores the value it saw; later models would not tie their embeddings.
LOADING = threading.Lock()


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message is shown to users."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model in eval mode; `tokenizer` is None for the built-in language."""

    model: PreTrainedModel
    tokenizer: Tokenizer | None


@dataclass(frozen=True)
class SavedCheckpoint:
    """The fields of `Checkpoint` that describe the files written by `save`."""

    num_parameters: int
    weights_sha256: str
    config_sha256: str
    tokenizer_sha256: str | None
    size_bytes: int
    context: int | None


def local_copy(location: Location, artefacts: Path, progress: Progress = no_progress) -> Path:
    """Return the local folder or file of a location; download it when it is on the hub.

    Raises CheckpointError.
    """
    try:
        return hub.local_copy(location, artefacts, progress)
    except (HubError, LocationError) as error:
        raise CheckpointError(str(error)) from error


def load(
    checkpoint: Checkpoint, device: str, artefacts: Path, progress: Progress = no_progress
) -> LoadedCheckpoint:
    """Load the checkpoint's model in fp32 on `device`, and its tokenizer.

    Weights, config and tokenizer must have the hashes of the checkpoint. Safetensors are preferred,
    pickles are read as plain tensors only, and code of a repository is never executed. `progress`
    receives the bytes of a download. Raises CheckpointError.
    """
    if checkpoint.unresolved:
        raise CheckpointError(f"{checkpoint.suite}/{checkpoint.revision}: {checkpoint.unresolved}")
    folder = local_copy(checkpoint.location, artefacts, progress)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{checkpoint.suite}/{checkpoint.revision}: no config.json in {folder}"
        )
    weights = weights_files(entry.name for entry in folder.iterdir())
    if not weights:
        raise CheckpointError(
            f"{checkpoint.suite}/{checkpoint.revision}: "
            f"no model.safetensors and no pytorch_model.bin in {folder}"
        )
    sha256 = combined_sha256({name: file_sha256(folder / name) for name in weights})
    _verify("weights", sha256, checkpoint.weights_sha256, folder)
    _verify("config", file_sha256(folder / "config.json"), checkpoint.config_sha256, folder)
    tokenizer = folder / "tokenizer.json"
    if checkpoint.tokenizer_sha256:
        _verify("tokenizer", file_sha256(tokenizer), checkpoint.tokenizer_sha256, folder)
    model = _model(folder, weights[0].endswith(".safetensors"))
    model.to(device).eval()  # type: ignore[arg-type]  # transformers wraps nn.Module.to without its types
    return LoadedCheckpoint(model, read_tokenizer(tokenizer) if tokenizer.is_file() else None)


def read_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer.json with truncation and padding turned off."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex, cached. Raises CheckpointError where it is missing."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    return cached_sha256(path)


def _verify(name: str, sha256: str, expected: str | None, folder: Path) -> None:
    if expected and sha256 != expected:
        raise CheckpointError(
            f"{name} in {folder} changed: sha256 {sha256[:12]}... instead of {expected[:12]}..."
        )


def _model(folder: Path, safetensors: bool) -> PreTrainedModel:
    config = json.loads((folder / "config.json").read_text())
    foreign = [key for key in FOREIGN_CODE if key in config]
    if foreign or (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder} needs {', '.join(foreign) or 'an adapter'}: remote code is never executed"
        )
    model: PreTrainedModel
    info: dict[str, Any]
    try:
        with LOADING:
            model, info = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
                folder,
                config=AutoConfig.from_pretrained(
                    folder, trust_remote_code=False, local_files_only=True
                ),
                dtype=torch.float32,  # None would mean the stored type: fp16 for Pythia
                trust_remote_code=False,
                attn_implementation="sdpa",  # a name in the config could be a repository
                use_safetensors=safetensors,
                weights_only=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise CheckpointError(
            f"{folder} cannot be loaded: {str(error).strip().splitlines()[0]}"
        ) from error
    wrong = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if wrong:
        raise CheckpointError(
            f"{folder} lacks weights that its config requires: {', '.join(wrong[:3])}"
        )
    return model


def save(
    model: PreTrainedModel, folder: Path, tokenizer: Tokenizer | None = None
) -> SavedCheckpoint:
    """Write config.json, model.safetensors and tokenizer.json to `folder` atomically."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        weights = {
            name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
        }
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        (temporary / "config.json").write_text(_config_json(model))
        if tokenizer is not None:
            tokenizer.save(str(temporary / "tokenizer.json"))
        hashes = {path.name: file_sha256(path) for path in temporary.iterdir()}
        size = sum(path.stat().st_size for path in temporary.iterdir())
        for path in temporary.iterdir():
            path.chmod(0o644)
            sync(path)
        temporary.chmod(0o755)
        sync(temporary)
        _put(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return SavedCheckpoint(
        model.num_parameters(),
        hashes["model.safetensors"],
        hashes["config.json"],
        hashes.get("tokenizer.json"),
        size,
        getattr(model.config, "max_position_embeddings", None),
    )


def claim(suite: Path, recipe: str) -> None:
    """Reserve the folder of a suite for one recipe. Raises CheckpointError when another one has it.

    Two experiments may be planned under one suite name before either of them saves a checkpoint.
    """
    suite.mkdir(parents=True, exist_ok=True)
    temporary, owner = suite / f".recipe.{uuid.uuid4().hex}", suite / "recipe.sha256"
    temporary.write_text(recipe)
    try:
        os.link(temporary, owner)
    except FileExistsError:
        if owner.read_text() != recipe:
            raise CheckpointError(
                f"{suite} holds checkpoints of another recipe; "
                "choose another suite name, or remove that folder"
            ) from None
    finally:
        temporary.unlink()


def _config_json(model: PreTrainedModel) -> str:
    """Return the config without the library's version, so that equal models give equal files."""
    config: dict[str, Any] = model.config.to_diff_dict()
    config.pop("transformers_version", None)
    config["architectures"] = [type(model).__name__]
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def _put(temporary: Path, folder: Path) -> None:
    """Rename over an existing folder; another worker may do so at the same time."""
    for _ in range(10):
        try:
            os.rename(temporary, folder)
            sync(folder.parent)
            return
        except OSError:
            if not folder.exists():
                raise
            old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
            try:
                os.rename(folder, old)
            except FileNotFoundError:  # the other worker was faster
                pass
            finally:
                shutil.rmtree(old, ignore_errors=True)
    raise OSError(f"cannot replace {folder}: other processes keep writing it")


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
