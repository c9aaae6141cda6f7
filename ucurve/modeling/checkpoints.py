"""Checkpoints on disk: saved atomically, loaded from a `Location`, verified by hash.

saved = save(model, artefacts / "suites/mine/seed0-step437")
location = Location(scheme="artefacts", path="suites/mine/seed0-step437")
checkpoint = Checkpoint(..., location=location, **asdict(saved))
loaded = load(checkpoint, "cpu", artefacts)   # loaded.model: fp32, eval mode
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from ucurve.disk_space import naming_full_disk
from ucurve.modeling.byte_level_tokenizer import byte_level_tokenizer
from ucurve.modeling.loading_errors import misfit, refusal
from ucurve.modeling.model_size import expect_fits
from ucurve.registry import artifacts, hub
from ucurve.registry.artifacts import Progress, cached_sha256, no_progress
from ucurve.registry.checkpoint_files import checkpoint_files
from ucurve.registry.hub_cache import HubError
from ucurve.registry.roots import LocationError, open_file
from ucurve.registry.suites import Checkpoint, Location, combined_sha256
from ucurve.registry.tensors.config_words import context_length
from ucurve.registry.tensors.model_files import (
    RegistrationError,
    Tensor,
    compare_sizes,
    parse_config,
    stored_tensors,
)
from ucurve.registry.tensors.weights_layout import Layout, merged

disable_progress_bar()  # type: ignore[no-untyped-call]
# Without the fused kernels of state-space layers the library's own path is right, only slower.
logging.getLogger("transformers.integrations.hub_kernels").setLevel(logging.ERROR)

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
    name = f"{checkpoint.suite}/{checkpoint.revision}"
    folder = local_copy(checkpoint.location, artefacts, progress)
    try:
        parts = checkpoint_files(folder, artefacts)
        hashes = {file: file_sha256(folder / file, artefacts) for file in parts.weights}
        _verify("weights", combined_sha256(hashes), checkpoint.weights_sha256, folder)
        config = file_sha256(folder / "config.json", artefacts)
        _verify("config", config, checkpoint.config_sha256, folder)
        is_registered = checkpoint.config_sha256 is not None
        files = parts.tokenizer if checkpoint.tokenizer_sha256 or not is_registered else {}
        tokenizer = tokenizer_of(files, checkpoint.tokenizer_sha256, folder, artefacts)
        model = _model(folder, parts.layout, artefacts)
    except (LocationError, OSError, RegistrationError) as error:
        raise CheckpointError(f"{name} cannot be loaded: {error}") from error
    model.to(device).eval()  # type: ignore[arg-type]  # transformers wraps nn.Module.to without its types
    return LoadedCheckpoint(model, tokenizer)


def tokenizer_of(
    files: Mapping[str, Path], sha256: str | None, folder: Path, artefacts: Path
) -> Tokenizer | None:
    """Return the tokenizer of a checkpoint, verified where its hash is known; None without one."""
    if sha256:
        hashes = {name: file_sha256(path, artefacts) for name, path in files.items()}
        if not hashes:
            raise CheckpointError(f"the tokenizer of {folder} is missing")
        _verify("tokenizer", combined_sha256(hashes), sha256, folder)
    if not files:
        return None
    if "tokenizer.json" in files:
        return read_tokenizer(files["tokenizer.json"], artefacts)
    contents = {name: read_bytes(path, artefacts) for name, path in files.items()}
    return byte_level_tokenizer(contents)


def read_tokenizer(path: Path, artefacts: Path) -> Tokenizer:
    """Load a tokenizer.json with truncation and padding turned off. Raises CheckpointError."""
    content = read_bytes(path, artefacts)
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library has no class of its own
        raise CheckpointError(unreadable_tokenizer(path.name, error)) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def unreadable_tokenizer(name: str, error: Exception) -> str:
    """Return what to say of a file that the tokenizers library does not read."""
    return (
        f"its {name} cannot be read by tokenizers {version('tokenizers')}: it is damaged, or of a "
        "later release; copy it again, or write it with that release, AutoTokenizer"
        f".from_pretrained(DIR).save_pretrained(DIR) (the library: {error})"
    )


def read_bytes(path: Path, artefacts: Path) -> bytes:
    """Return the bytes of a file that workers may read. Raises CheckpointError."""
    try:
        with open_file(path, artefacts) as file:
            return file.read()
    except (LocationError, OSError) as error:
        raise CheckpointError(str(error)) from error


def file_sha256(path: Path, artefacts: Path | None = None) -> str:
    """Return the SHA-256 of a file in hex, cached. Raises CheckpointError where it is missing, or
    may not be read.
    """
    try:
        return cached_sha256(path, artefacts)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (LocationError, OSError) as error:
        raise CheckpointError(str(error)) from error


def _verify(name: str, sha256: str, expected: str | None, folder: Path) -> None:
    if expected and sha256 != expected:
        raise CheckpointError(
            f"{name} in {folder} changed: sha256 {sha256[:12]}... instead of {expected[:12]}... "
            "that was registered: if this is the right file, register the suite again"
        )


def _model(folder: Path, layout: Layout, artefacts: Path) -> PreTrainedModel:
    """Return the model of a folder whose files were verified; it is built from these only.

    They are staged under the names that transformers reads, with an index of our own: it looks for
    the single file first, even where that is of an older save.
    """
    weights = layout.weights
    config, shards, stored = _checked_config(folder, layout, artefacts)
    expect_own_code(config, str(folder))
    safetensors = weights[0].endswith(".safetensors")
    name = "model.safetensors" if safetensors else "pytorch_model.bin"
    with tempfile.TemporaryDirectory(prefix="ucurve-") as staged:
        files = {"config.json": "config.json"}
        files |= {file: file for file in weights} if weights[1:] else {name: weights[0]}
        for link, file in files.items():
            (Path(staged) / link).symlink_to((folder / file).resolve())
        if weights[1:]:
            placed = {key: file for file, tensors in shards.items() for key in tensors}
            index = {"metadata": {"total_size": stored}, "weight_map": placed}
            (Path(staged) / f"{name}.index.json").write_text(json.dumps(index))
        return build(str(folder), Path(staged), safetensors, stored)


def expect_own_code(config: Mapping[str, Any], name: str, adapter: bool = False) -> None:
    """Raise CheckpointError where a model is more than its config and weights.

    A repository may have brought code for an architecture that transformers has since: then the
    library's own class of that name is used.
    """
    foreign = [key for key in FOREIGN_CODE if key in config]
    if _in_library(config):
        foreign.remove("auto_map")
    if foreign or adapter:
        raise CheckpointError(
            f"{name} needs {', '.join(foreign) or 'an adapter'}: remote code is never executed"
        )


def _in_library(config: Mapping[str, Any]) -> bool:
    """Return whether the class that a repository has code for is the library's, too."""
    classes = config.get("auto_map")
    wanted = classes.get("AutoModelForCausalLM") if isinstance(classes, dict) else None
    own = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(config.get("model_type")))
    if not isinstance(wanted, str) or not isinstance(own, str):
        return False
    return wanted.rpartition(".")[2].lower() == own.lower()  # MPTForCausalLM is MptForCausalLM


def _checked_config(
    folder: Path, layout: Layout, artefacts: Path
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]], int]:
    """Return the config, compared with the stored tensors; these by file; and the most numbers
    that the files can hold. Raises RegistrationError.
    """
    config = parse_config(read_bytes(folder / "config.json", artefacts))
    shards: dict[str, dict[str, Tensor]] = {}
    num_bytes = 0
    for name in layout.weights:
        with open_file(folder / name, artefacts) as file:
            num_bytes += os.fstat(file.fileno()).st_size
            shards[name] = stored_tensors(file, name)
    tensors = merged(shards, layout.placed)
    compare_sizes(config, tensors, num_bytes)
    return config, shards, sum(math.prod(t.shape) for t in tensors.values()) or num_bytes


def build(
    name: str, staged: Path, safetensors: bool, stored: int, device: str = "cpu"
) -> PreTrainedModel:
    """Return the model of the files in `staged`, in fp32.

    Args:
        name: of the files in messages.
        staged: a folder of config.json and files of weights.
        safetensors: whether the weights are in this format.
        stored: the most numbers that the files can hold.
        device: "meta" for a model without memory for its weights.

    Raises:
        CheckpointError: they cannot be loaded.
    """
    model: PreTrainedModel
    info: dict[str, Any]
    try:
        with LOADING:
            config = AutoConfig.from_pretrained(
                staged, trust_remote_code=False, local_files_only=True
            )
            if hasattr(config, "rescale_every"):  # RWKV would halve weights in place when it is run
                config.rescale_every = 0
            attention = expect_fits(config, stored)
            model, info = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
                staged,
                config=config,
                dtype=torch.float32,  # None would mean the stored type: fp16 for Pythia
                trust_remote_code=False,
                attn_implementation=attention,
                device_map=None if device == "cpu" else device,
                use_safetensors=safetensors,
                weights_only=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise CheckpointError(refusal(error, staged, name)) from error
    wrong = misfit(model, info)
    if wrong:
        raise CheckpointError(f"{name} cannot be loaded: {wrong}")
    return model


def save(
    model: PreTrainedModel, folder: Path, tokenizer: Tokenizer | None = None
) -> SavedCheckpoint:
    """Write config.json, model.safetensors and tokenizer.json to `folder` atomically."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with naming_full_disk(folder.parent):
            weights = {
                name: value.detach().cpu().contiguous()
                for name, value in model.state_dict().items()
            }
            save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
            (temporary / "config.json").write_text(_config_json(model))
            if tokenizer is not None:
                tokenizer.save(str(temporary / "tokenizer.json"))
        hashes = {path.name: artifacts.file_sha256(path) for path in temporary.iterdir()}
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
        context_length(model.config.to_dict()),
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
