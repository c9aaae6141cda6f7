"""Folders as trainers leave them: two saves in one, no tokenizer, formats of other programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from test_gaussian_perturbation import Catalogue
from test_suites import TOKENIZER, write_model
from tiny_model import model_of
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer

from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.modeling.checkpoints import CheckpointError, load, save
from ucurve.registry import hashing
from ucurve.registry.discover import discover
from ucurve.registry.file_remarks import file_remarks
from ucurve.registry.foreign_files import foreign_files
from ucurve.registry.suites import Checkpoint, Location, Suite
from ucurve.registry.tensors.model_files import RegistrationError
from ucurve.registry.tokenizer_files import content_sha256
from ucurve.spec import SpecError

SAFE, PICKLE = "model.safetensors", "pytorch_model.bin"


@pytest.fixture(autouse=True)
def readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UCURVE_MODELS", str(tmp_path))


def resolved(folder: Path) -> Checkpoint:
    location = Location(scheme="path", path=str(folder))
    return hashing.resolve(Checkpoint(suite="s", revision="r", location=location), folder)


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    """Register and load a folder; return its weights."""
    checkpoint = resolved(folder)
    assert checkpoint.unresolved is None
    return load(checkpoint, "cpu", folder.parent).model.state_dict()


def shard(folder: Path, seed: int, safetensors: bool = True) -> None:
    """Save a model in shards, as a trainer does, into a folder that may hold an older save."""
    from safetensors.torch import save_file

    weights = dict(model_of(seed).state_dict())
    name, end = ("model", ".safetensors") if safetensors else ("pytorch_model", ".bin")
    placed = {key: f"{name}-0000{n % 2 + 1}-of-00002{end}" for n, key in enumerate(weights)}
    for file in set(placed.values()):
        part = {key: weights[key] for key in weights if placed[key] == file}
        if safetensors:
            save_file(part, folder / file, metadata={"format": "pt"})
        else:
            torch.save(part, folder / file)
    index = {"metadata": {}, "weight_map": placed}
    (folder / f"{name}{end}.index.json").write_text(json.dumps(index))


def is_of(weights: dict[str, torch.Tensor], seed: int) -> bool:
    expected = model_of(seed).state_dict()
    return all(torch.equal(weights[name], value) for name, value in expected.items())


@pytest.mark.parametrize("safetensors", [True, False])
def test_the_index_decides_where_an_older_single_file_lies_beside_its_shards(
    tmp_path: Path, safetensors: bool
) -> None:
    folder = tmp_path / "step1000"
    save(model_of(1), folder)
    if not safetensors:
        (folder / SAFE).unlink()
        torch.save(model_of(1).state_dict(), folder / PICKLE)
    shard(folder, 2, safetensors)
    (remark, _) = resolved(folder).remarks
    assert "of another save is ignored" in remark
    assert is_of(loaded(folder), 2)
    remarks = file_remarks([resolved(folder)])
    assert [r.message for r in remarks if "another save" in r.message] == [f"r: {remark}."]


def test_an_index_that_outlived_its_shards_is_ignored_with_a_remark(tmp_path: Path) -> None:
    folder = tmp_path / "step1000"
    folder.mkdir()
    shard(folder, 2)
    for path in folder.glob("model-*"):
        path.unlink()
    save_into(folder, 1)
    assert "which is not there: model.safetensors is read" in resolved(folder).remarks[0]
    assert is_of(loaded(folder), 1)


def save_into(folder: Path, seed: int) -> None:
    """Save a single file into a folder that stays as it is."""
    save(model_of(seed), folder.parent / "other")
    for path in (folder.parent / "other").iterdir():
        shutil.copy(path, folder / path.name)


def test_shards_that_the_index_does_not_name_are_ignored_with_a_remark(tmp_path: Path) -> None:
    folder = tmp_path / "step1000"
    save_into_new(folder, 1)
    shard(folder, 2)
    (folder / SAFE).unlink()
    (folder / "model-00003-of-00003.safetensors").write_bytes(b"of an older save")
    assert "model-00003-of-00003.safetensors" in resolved(folder).remarks[0]
    assert is_of(loaded(folder), 2)


def save_into_new(folder: Path, seed: int) -> None:
    folder.mkdir()
    save_into(folder, seed)


@pytest.mark.parametrize("safetensors", [True, False])
def test_shards_without_an_index_and_a_single_numbered_shard_load(
    tmp_path: Path, safetensors: bool
) -> None:
    folder = tmp_path / "a"
    save_into_new(folder, 1)
    shard(folder, 2, safetensors)
    (folder / SAFE).unlink()
    next(folder.glob("*.index.json")).unlink()
    assert is_of(loaded(folder), 2)
    single = tmp_path / "b"
    save_into_new(single, 3)
    (single / SAFE).rename(single / "model-00001-of-00001.safetensors")
    assert is_of(loaded(single), 3)


def test_mixed_and_missing_shards_are_refused_with_the_file_and_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save_into_new(folder, 1)
    shard(folder, 2)
    index = json.loads((folder / f"{SAFE}.index.json").read_text())
    first, second = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))

    def reason(weight_map: Any) -> str:
        (folder / f"{SAFE}.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return resolved(folder).unresolved or ""

    names = list(index["weight_map"])
    assert reason({**index["weight_map"], names[0]: second}).endswith("of another save")
    assert "1 of 2 shards" in reason({"a": first, "b": "model-00009-of-00009.safetensors"})
    for odd in ({}, [], None, {"a": "../x.safetensors"}, {"a": 1}, {"a": ["x"]}, {"a": "x.bin"}):
        assert f"{SAFE}.index.json" in reason(odd)
    shutil.copy(folder / first, folder / second)
    assert "both hold" in reason(index["weight_map"])
    with pytest.raises(CheckpointError, match="both hold"):
        load(resolved(folder).model_copy(update={"unresolved": None}), "cpu", tmp_path)


# ---- tokenizers

TEXT = "Hello  world, it's 2024!\n\tNaïve café – 東京 <|endoftext|> x"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vocab.json and merges.txt, trained on a text."""
    folder = tmp_path_factory.mktemp("pair")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([TEXT] * 3, 300, special_tokens=["<|endoftext|>"])
    trained.save_model(str(folder))
    return folder


def model_folder(folder: Path, *files: Path) -> Path:
    folder.mkdir(parents=True)
    save_into(folder, 1)
    for path in files:
        shutil.copy(path, folder / path.name)
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        None,
        {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True},
        {
            "tokenizer_class": "GPT2TokenizerFast",
            "pad_token": "!",
            "eos_token": {"__type": "AddedToken", "content": "x"},
        },
    ],
    ids=range(3),
)
def test_vocab_and_merges_make_the_tokenizer_that_transformers_makes(
    tmp_path: Path, pair: Path, settings: dict[str, Any] | None
) -> None:
    folder = model_folder(tmp_path / "m", pair / "vocab.json", pair / "merges.txt")
    (folder / "config.json").write_text(
        json.dumps({**json.loads((folder / "config.json").read_text()), "model_type": "gpt_neox"})
    )
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    checkpoint = resolved(folder)
    assert checkpoint.tokenizer_sha256
    assert checkpoint.remarks == []
    ours = load(checkpoint, "cpu", tmp_path).tokenizer
    assert ours is not None
    other = shutil.copytree(pair, tmp_path / "theirs")
    (other / "config.json").write_text('{"model_type": "gpt2"}')
    (other / "tokenizer_config.json").write_text(json.dumps(settings or {}))
    theirs = AutoTokenizer.from_pretrained(other)
    ids = theirs(TEXT, add_special_tokens=False)["input_ids"]
    assert ours.encode(TEXT, add_special_tokens=False).ids == ids
    (folder / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(CheckpointError, match=r"tokenizer in .* changed"):
        load(checkpoint, "cpu", tmp_path)


def test_the_same_tokenizer_saved_by_another_version_has_the_same_content(pair: Path) -> None:
    files = {name: (pair / name).read_bytes() for name in ("vocab.json", "merges.txt")}
    trained = ByteLevelBPETokenizer.from_file(str(pair / "vocab.json"), str(pair / "merges.txt"))
    whole = json.loads(trained.to_str())
    whole["added_tokens"] = [{"id": 0, "content": "<|endoftext|>", "special": True}]
    lines = {**whole, "model": {**whole["model"]}, "truncation": {"max_length": 9}}
    lines["model"]["merges"] = [" ".join(merge) for merge in whole["model"]["merges"]]
    contents = [{"tokenizer.json": json.dumps(fields).encode()} for fields in (whole, lines)]
    assert content_sha256(contents[0]) == content_sha256(contents[1])
    assert content_sha256(files) == content_sha256({**files, "tokenizer_config.json": b"{}"})
    lines["model"]["vocab"] = dict(list(whole["model"]["vocab"].items())[::-1])
    assert content_sha256({"tokenizer.json": json.dumps(lines).encode()}) == content_sha256(files)
    lines["model"]["vocab"]["new"] = 999
    assert content_sha256({"tokenizer.json": json.dumps(lines).encode()}) != content_sha256(files)


def test_a_tokenizer_in_the_folder_above_is_used_with_a_remark(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "run" / "checkpoint-500")
    (tmp_path / "run" / "tokenizer.json").write_text(TOKENIZER)
    checkpoint = resolved(folder)
    assert checkpoint.remarks == ["the tokenizer is that of the folder above"]
    assert load(checkpoint, "cpu", tmp_path).tokenizer is not None
    (folder / "tokenizer.json").write_text(TOKENIZER.replace('"a"', '"b"'))
    assert resolved(folder).remarks == []
    assert resolved(folder).tokenizer_sha256 != checkpoint.tokenizer_sha256


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ({}, "no tokenizer: copy tokenizer.json"),
        ({"tokenizer.model": "x"}, "tokenizer.model is read only by its own library"),
        ({"spiece.model": "x"}, "spiece.model is read only"),
        ({"vocab.txt": "x"}, "beside vocab.txt: AutoTokenizer"),
        ({"vocab.json": "{}"}, "beside vocab.json: AutoTokenizer"),
        ({"vocab.json": "{}", "merges.txt": ""}, "vocab.json does not give the number"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a a"}, "merges.txt merges 'a a'"),
        (
            {
                "vocab.json": '{"a": 0}',
                "merges.txt": "",
                "tokenizer_config.json": '{"tokenizer_class": "CLIPTokenizer"}',
            },
            "AutoTokenizer",
        ),
        ({"tokenizer.json": "{"}, "tokenizer.json is damaged"),
        ({"tokenizer.json": "{}"}, "tokenizer.json is damaged"),
        ({"tokenizer.json": "version https://git-lfs.github.com/spec/v1"}, "is damaged"),
    ],
    ids=range(11),
)
def test_a_missing_tokenizer_is_said_at_registration_with_what_to_do(
    tmp_path: Path, contents: dict[str, str], reason: str
) -> None:
    folder = model_folder(tmp_path / "m")
    for name, content in contents.items():
        (folder / name).write_text(content)
    checkpoint = resolved(folder)
    assert (checkpoint.unresolved, checkpoint.tokenizer_sha256) == (None, None)
    assert [reason in remark for remark in checkpoint.remarks] == [True]


# ---- what other programs leave

FOREIGN: list[tuple[list[str], str]] = [
    (["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"], "merge_and_unload"),
    (["global_step500", "zero_to_fp32.py", "latest"], "zero_to_fp32.py DIR"),
    (["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"], "DeepSpeed"),
    (["pytorch_model_fsdp_0", "optimizer_0"], "accelerate merge-weights"),
    ([".metadata", "__0_0.distcp"], "FSDP"),
    (["consolidated.00.pth", "params.json"], "convert_llama_weights_to_hf"),
    (["mp_rank_00", "latest_checkpointed_iteration.txt"], "Megatron"),
    (["model-q4_k_m.gguf"], "gguf_file=FILE"),
    (["tf_model.h5"], "from_tf=True"),
    (["flax_model.msgpack"], "from_flax=True"),
    (["epoch=0-step=1000.ckpt"], "Lightning"),
    (["optimizer.pt", "rng_state_0.pth", "scheduler.pt", "training_args.bin"], "save_only_model"),
    (["model.fp16.safetensors"], "rename it"),
    (["model.pt"], "a name that is not read"),
    (["lit_model.pth"], "convert_from_litgpt"),
]


@pytest.mark.parametrize(("names", "remedy"), FOREIGN, ids=lambda case: str(case)[:40])
def test_what_other_programs_leave_is_refused_by_name_with_what_to_run(
    tmp_path: Path, names: list[str], remedy: str
) -> None:
    folder = tmp_path / "run" / "step1000"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"") if "." in name else (folder / name).mkdir()
    assert remedy in (foreign_files(names) or "")
    with pytest.raises(RegistrationError, match="step1000") as refusal:
        discover(tmp_path / "run", "s")
    assert remedy in str(refusal.value)
    (folder / "config.json").write_text("{}")
    assert remedy in (resolved(folder).unresolved or "")
    write_model(tmp_path / "run" / "step2000", 2)
    assert [c.revision for c in discover(tmp_path / "run", "s").checkpoints] == [
        "step1000",
        "step2000",
    ]


def test_what_a_trainer_leaves_beside_the_weights_is_ignored(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "checkpoint-500")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (folder / name).write_bytes(b"not weights")
    (folder / "tokenizer.json").write_text(TOKENIZER)
    (folder / "global_step500").mkdir()
    assert (resolved(folder).unresolved, resolved(folder).remarks) == (None, [])
    assert is_of(loaded(folder), 1)


def test_an_adapter_beside_the_weights_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "adapter_config.json").write_text("{}")
    assert "an adapter lies beside the weights" in (resolved(folder).unresolved or "")


def test_folders_without_a_checkpoint_are_left_out(tmp_path: Path) -> None:
    write_model(tmp_path / "step1", 1)
    for name in ("runs", "logs", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.txt").write_text("x")
    assert [c.revision for c in discover(tmp_path, "s").checkpoints] == ["step1"]


# ---- what is no curve


def checkpoints(*fields: dict[str, Any]) -> list[Checkpoint]:
    return [
        Checkpoint(
            suite="s",
            revision=f"step{n}",
            tokens=n,
            step=n,
            location=Location(scheme="path", path=f"/m/{n}"),
            **{"weights_sha256": str(n), "config_sha256": "c", "tokenizer_sha256": "t", **field},
        )
        for n, field in enumerate(fields, 1)
    ]


@pytest.mark.parametrize(
    ("fields", "spec", "refusal"),
    [
        ([{}, {"tokenizer_sha256": "u"}], {}, ("checkpoints", "different tokenizers")),
        (
            [{"tokenizer_content": "x"}, {"tokenizer_sha256": "u", "tokenizer_content": "x"}],
            {},
            None,
        ),
        ([{"tokenizer_content": "x"}, {}], {}, None),  # registered before contents were compared
        ([{"context": 512}, {"context": 2048}], {}, ("window", "at most 512")),
        ([{"context": 512}, {"context": 2048}], {"window": 512}, None),
        ([{"context": 1024}, {"context": 2048}], {}, None),  # both are read in windows of 1,024
        ([{"tokenizer_sha256": None}], {}, ("evaluation", "copy")),
        ([{}, {"tokenizer_sha256": "u"}], {"checkpoints": ["step1"]}, None),
    ],
    ids=range(8),
)
def test_two_tokenizers_or_windows_are_refused_in_the_plan_with_field_and_remedy(
    fields: list[dict[str, Any]], spec: dict[str, Any], refusal: tuple[str, str] | None
) -> None:
    suite = Suite(name="s", checkpoints=checkpoints(*fields))
    body = {"suite": "s", "evaluation": "text", "scale": "current_std", **spec}
    planned = GaussianPerturbation(**body).plan(Catalogue(suites=[suite]))
    if refusal is None:
        assert list(planned)
        return
    with pytest.raises(SpecError) as error:
        list(planned)
    assert (error.value.field, refusal[1] in str(error.value)) == (refusal[0], True)


def test_two_tokenizers_and_contexts_are_said_of_the_suite() -> None:
    remarks = file_remarks(checkpoints({"context": 512}, {"tokenizer_sha256": "u", "context": 64}))
    assert [remark.kind for remark in remarks] == ["tokenizers", "contexts"]
    assert "step1; step2" in remarks[0].message
    assert "at most 64" in remarks[1].message
