"""Folders of public trainers: the program is named, with what to run, before anything is planned.

Beside each layout stands the public place that shows it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_model import model_of

from ucurve.modeling.checkpoints import save
from ucurve.registry import hashing
from ucurve.registry.discover import discover
from ucurve.registry.suites import Checkpoint, Location
from ucurve.registry.tensors.model_files import RegistrationError


@pytest.fixture(autouse=True)
def readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UCURVE_MODELS", str(tmp_path))


def resolved(folder: Path) -> Checkpoint:
    location = Location(scheme="path", path=str(folder))
    return hashing.resolve(Checkpoint(suite="s", revision="r", location=location), folder)


# Names end in a slash where they are folders.
LAYOUTS: list[tuple[str, list[str], str]] = [
    # EleutherAI/gpt-neox pull request 836, VHellendoorn/Code-LMs pull request 34
    (
        "neox",
        ["layer_00-model_00-model_states.pt", "mp_rank_00_model_states.pt"],
        "GPT-NeoX (layer_00-model_00-model_states.pt): convert it",
    ),
    # pytorch/torchtitan pull request 235
    ("torchtitan", [".metadata", "__0_0.distcp", "__1_0.distcp"], "dcp_to_torch DIR FILE"),
    # NVIDIA/Megatron-LM issue 1508
    ("megatron", [".metadata", "__0_0.distcp", "common.pt", "metadata.json"], "Megatron: its Br"),
    # NVIDIA-NeMo/Megatron-Bridge issue 335
    ("nemo", ["context/io.json", "weights/__0_0.distcp", "weights/common.pt"], "llm.export_ckpt"),
    # allenai/OLMo docs/Checkpoints.md and pull request 752
    ("olmo", ["config.yaml", "model.pt", "optim.pt", "train.pt"], "convert_olmo_to_hf_new.py"),
    (
        "olmo-2",
        ["config.yaml", "model.safetensors", "optim.safetensors", "train.pt"],
        "convert_olmo_to_hf_new.py",
    ),
    (
        "olmo-sharded",
        ["config.yaml", "model/rank0.pt", "optim/rank0.pt", "train/rank0.pt"],
        "unshard it first",
    ),
    # allenai/OLMo-core pull request 253: its config.json is not one of transformers
    (
        "olmo-core",
        [".metadata.json", "config.json", "model_and_optim/.metadata", "train/rank0.pt"],
        "OLMo-core (model_and_optim): run its src/examples/huggingface",
    ),
    # Lightning-AI/litgpt, tutorials/convert_lit_models.md
    ("litgpt", ["lit_model.pth", "model_config.yaml"], "`litgpt convert_from_litgpt DIR NEW_DIR`"),
    # karpathy/llama2.c issue 321, karpathy/nanoGPT train.py
    ("nanogpt", ["ckpt.pt"], "(ckpt.pt): rename it to pytorch_model.bin"),
    # mosaicml/llm-foundry issue 421
    ("composer", ["ep0-ba1000-rank0.pt", "latest-rank0.pt"], "convert_composer_to_hf.py"),
    # huggingface/nanotron docs/docs.md
    (
        "nanotron",
        ["checkpoint_metadata.json", "config.yaml", "model/", "optimizer/"],
        "convert_nanotron_to_hf.py",
    ),
    # AI-Hypercomputer/maxtext issue 551
    ("maxtext", ["_CHECKPOINT_METADATA", "items/"], "Orbax"),
    # verl-project/verl issues 770 and 1438
    (
        "verl",
        ["actor/model_world_size_8_rank_0.pt", "actor/huggingface/config.json", "data.pt"],
        "in its sub-folder actor shards of verl (model_world_size_8_rank_0.pt): run `python -m",
    ),
    # meta-pytorch/torchtune issue 958
    ("torchtune", ["config.json", "hf_model_0001_0.pt", "recipe_state.pt"], "weights of torchtune"),
    # huggingface/accelerate docs, save_state under FSDP
    (
        "accelerate",
        ["config.json", "pytorch_model_fsdp.bin", "optimizer.bin", "random_states_0.pkl"],
        "(pytorch_model_fsdp.bin): rename it to pytorch_model.bin",
    ),
    # hiyouga/LlamaFactory issue 206
    (
        "llamafactory",
        ["config.json", "global_step500/mp_rank_00_model_states.pt", "zero_to_fp32.py", "latest"],
        "DeepSpeed (global_step500): run `python zero_to_fp32.py DIR DIR`",
    ),
    # AutoGPTQ/AutoGPTQ, names of quantised weights
    ("gptq", ["config.json", "gptq_model-4bit-128g.safetensors"], "quantised weights, which"),
    # huggingface/transformers, save_pretrained(variant="fp16") before and since 4.45
    ("variant", ["config.json", "model.fp16-00001-of-00002.safetensors"], "variant=NAME"),
    ("old-variant", ["config.json", "model-00001-of-00002.fp16.safetensors"], "variant=NAME"),
    # huggingface/huggingface_hub, names of a download under way
    ("download", ["config.json", "model.safetensors.incomplete"], "download it again"),
]


@pytest.mark.parametrize(
    ("names", "remedy"), [rest for _, *rest in LAYOUTS], ids=[name for name, *_ in LAYOUTS]
)
def test_a_trainers_layout_is_refused_at_registration_with_what_to_run(
    tmp_path: Path, names: list[str], remedy: str
) -> None:
    folder = tmp_path / "run" / "step1000"
    for name in names:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"{}" if name.endswith("json") else b"")
    assert remedy in (resolved(folder).unresolved or "")
    if "config.json" in names:
        assert [c.revision for c in discover(tmp_path / "run", "s").checkpoints] == ["step1000"]
        return
    with pytest.raises(RegistrationError, match="step1000 holds") as refusal:
        discover(tmp_path / "run", "s")
    assert remedy in str(refusal.value)


@pytest.mark.parametrize(
    "inner",
    [
        "model/consolidated",  # NVIDIA-NeMo/Automodel pull request 810
        "modeling",  # hpcaitech/ColossalAI, utils of save_checkpoint
        "huggingface",  # mosaicml/llm-foundry, hf_checkpointer
    ],
)
def test_a_model_in_a_sub_folder_is_pointed_at_and_loads_after_the_move(
    tmp_path: Path, inner: str
) -> None:
    folder = tmp_path / "run" / "step1000"
    save(model_of(1), folder / inner)
    (folder / "optim").mkdir()
    reason = f"a model in its sub-folder {inner}: move the files of {inner} up into {folder}"
    assert resolved(folder).unresolved == f"cannot be used: {reason}"
    with pytest.raises(
        RegistrationError, match=f"step1000 holds a model in its sub-folder {inner}"
    ):
        discover(tmp_path / "run", "s")
    for path in (folder / inner).iterdir():
        path.rename(folder / path.name)
    assert resolved(folder).unresolved is None


def test_a_folder_called_pytorch_model_bin_is_said_to_be_one(tmp_path: Path) -> None:
    """JIA-Lab-research/LISA issue 155: zero_to_fp32.py since DeepSpeed 0.15.3 writes a folder."""
    folder = tmp_path / "checkpoint-500"
    save(model_of(1), folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").mkdir()
    (folder / "pytorch_model.bin" / "pytorch_model-00001-of-00001.bin").write_bytes(b"")
    reason = resolved(folder).unresolved or ""
    assert "a folder that is called pytorch_model.bin, as zero_to_fp32.py" in reason
    assert "move the files in it one level up" in reason


def test_files_beside_the_shards_of_an_index_are_left_alone(tmp_path: Path) -> None:
    """Mistral 7B v0.3 has consolidated.safetensors beside its shards; a conversion by LLM Foundry
    leaves pytorch_model.bin beside them (mosaicml/llm-foundry issue 421).
    """
    from safetensors.torch import save_file

    folder = tmp_path / "step1000"
    save(model_of(1), folder)
    (folder / "model.safetensors").unlink()
    weights = dict(model_of(2).state_dict())
    shard = "model-00001-of-00001.safetensors"
    save_file(weights, folder / shard, metadata={"format": "pt"})
    index = {"weight_map": dict.fromkeys(weights, shard)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("consolidated.safetensors", "params.json", "pytorch_model.bin"):
        (folder / name).write_bytes(b"another format")
    checkpoint = resolved(folder)
    assert checkpoint.unresolved is None
    assert checkpoint.num_parameters == model_of(2).num_parameters()
