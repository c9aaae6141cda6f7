"""A model in shards, with an index, goes all the way from the hub to its loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub, serving
from safetensors.torch import save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ucurve.modeling.checkpoints import load
from ucurve.modeling.perplexity import window_losses
from ucurve.modeling.trial import try_checkpoint
from ucurve.registry import hub
from ucurve.registry.suites import Checkpoint, Location

REPOSITORY = "lab/sharded"
FORMATS = {"safetensors": "model", "bin": "pytorch_model"}


@pytest.fixture(scope="module")
def model() -> GPTNeoXForCausalLM:
    torch.manual_seed(3)
    config = GPTNeoXConfig(
        vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return GPTNeoXForCausalLM(config).eval()


def shards(model: GPTNeoXForCausalLM, suffix: str, folder: Path) -> dict[str, bytes]:
    """The files of a repository: three shards, their index, and what else it needs."""
    folder.mkdir()
    model.config.save_pretrained(folder)
    tensors, index = model.state_dict(), {}
    for number in range(3):
        name = f"{FORMATS[suffix]}-0000{number + 1}-of-00003.{suffix}"
        part = {key: tensors[key].contiguous() for key in sorted(tensors)[number::3]}
        index |= dict.fromkeys(part, name)
        if suffix == "bin":
            torch.save(part, folder / name)
        else:
            save_file(part, folder / name, metadata={"format": "pt"})
    content = {"metadata": {}, "weight_map": index}
    (folder / f"{FORMATS[suffix]}.{suffix}.index.json").write_text(json.dumps(content))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("beside", ["nothing else", "an older single file"])
def test_shards_are_registered_tried_downloaded_and_measured(
    model: GPTNeoXForCausalLM,
    suffix: str,
    beside: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = shards(model, suffix, tmp_path / "made")
    single = f"{FORMATS[suffix]}.{suffix}"
    if beside != "nothing else":
        files[single] = b"of an earlier save"
    artefacts = tmp_path_factory.mktemp("artefacts")
    server = FakeHub({f"models/{REPOSITORY}": {"step1000": files}})
    with serving(server) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("UCURVE_ARTEFACTS", str(artefacts))
        commit = hub.revisions(REPOSITORY, artefacts)["step1000"]
        location = Location(scheme="hub", path=REPOSITORY, commit=commit)
        listed = Checkpoint(suite="sharded", revision="step1000", location=location)
        checkpoint = hub.resolve(listed, artefacts)
        assert checkpoint.unresolved is None
        assert checkpoint.num_parameters == model.num_parameters()
        said = any(single in remark for remark in checkpoint.remarks)
        assert said is (beside != "nothing else")
        assert try_checkpoint(checkpoint).run
        loaded = load(checkpoint, "cpu", artefacts).model
    weights = [name for name in files if name.endswith(suffix)]
    fetched = {path.rsplit("/", 1)[-1] for path, _ in server.requests if path.startswith("/cdn/")}
    assert fetched >= {name for name in weights if name != single}
    assert single not in fetched
    tokens = torch.randint(61, (203,), generator=torch.Generator().manual_seed(1))
    losses = [window_losses(m, tokens, window=32, stride=32) for m in (loaded, model)]
    assert losses[0].nll_mean == losses[1].nll_mean
