"""EleutherAI/pythia-70m at its real shape: perplexity of WikiText-2 equals that of a plain loop.

The weights are random and lie in a local hub cache (no download); shape, stored type, file names,
tokenizer and text are the real ones.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.modeling.checkpoints import file_sha256
from ucurve.modeling.perturb import standard_normal
from ucurve.modeling.token_data import tokens_of
from ucurve.registry.suites import Checkpoint, Dataset, Location, Suite, combined_sha256
from ucurve.spec import Point

DATA = Path(__file__).parents[2] / "shared/data"
WIKITEXT, TOKENIZER = DATA / "wikitext-2-raw/wiki.test.raw", DATA / "tokenizer/20B_tokenizer.json"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="../shared/data (WikiText-2 and the Pythia tokenizer) is absent"
)

CONFIG = {  # config.json of EleutherAI/pythia-70m
    "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0,
    "hidden_act": "gelu", "hidden_size": 512, "initializer_range": 0.02, "intermediate_size": 2048,
    "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox",
    "num_attention_heads": 8, "num_hidden_layers": 6, "rotary_emb_base": 10000, "rotary_pct": 0.25,
    "tie_word_embeddings": False, "torch_dtype": "float16", "use_cache": True,
    "use_parallel_residual": True, "vocab_size": 50304,
}  # fmt: skip
WINDOW = 128  # tokens; the real 1,024 would prove the same in eight times the time
REVISIONS = {"step1000": "a" * 40, "step143000": "b" * 40}


def stored_weights(seed: int) -> dict[str, torch.Tensor]:
    """Random fp16 tensors under the names of Pythia's own files."""
    shapes = {"gpt_neox.embed_in.weight": (50304, 512), "embed_out.weight": (50304, 512)}
    for layer in (f"gpt_neox.layers.{i}" for i in range(6)):
        shapes |= {
            f"{layer}.attention.query_key_value.weight": (1536, 512),
            f"{layer}.attention.query_key_value.bias": (1536,),
        }
        shapes |= {
            f"{layer}.attention.dense.weight": (512, 512),
            f"{layer}.attention.dense.bias": (512,),
        }
        shapes |= {
            f"{layer}.mlp.dense_h_to_4h.weight": (2048, 512),
            f"{layer}.mlp.dense_h_to_4h.bias": (2048,),
        }
        shapes |= {
            f"{layer}.mlp.dense_4h_to_h.weight": (512, 2048),
            f"{layer}.mlp.dense_4h_to_h.bias": (512,),
        }
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: 0.05 * torch.randn(shape, generator=generator) for name, shape in shapes.items()
    }
    for norm in (
        "final_layer_norm",
        *(f"layers.{i}.{n}_layernorm" for i in range(6) for n in ("input", "post_attention")),
    ):
        tensors |= {
            f"gpt_neox.{norm}.weight": torch.ones(512),
            f"gpt_neox.{norm}.bias": torch.zeros(512),
        }
    return {name: tensor.half().contiguous() for name, tensor in tensors.items()}


class InProcess:
    """The runtime that run() sees, in this process."""

    device = "cpu"

    def __init__(self, artefacts: Path) -> None:
        self.artefacts = artefacts
        self.state_dir = artefacts / "state"
        self.kept: dict[str, Any] = {}

    def progress(self, done: float, total: float, **metrics: float) -> None: ...

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


class Catalogue:
    def __init__(self, suite: Suite, dataset: Dataset) -> None:
        self._suite, self._dataset = suite, dataset

    def suite(self, name: str, field: str = "suite") -> Suite:
        return self._suite

    def find_suite(self, name: str) -> Suite | None:
        return self._suite

    def dataset(self, name: str, field: str = "evaluation") -> Dataset:
        return self._dataset


@pytest.fixture(scope="module")
def artefacts(files: Path) -> Iterator[Path]:
    """Two revisions in the layout of the hub's cache: refs, blobs, snapshots."""
    root = files / "pythia_shape"
    root.mkdir()
    repository = root / "hub/models--EleutherAI--pythia-70m"
    for folder in ("refs", "blobs"):
        (repository / folder).mkdir(parents=True)
    for seed, (revision, commit) in enumerate(REVISIONS.items()):
        (repository / "refs" / revision).write_text(commit)
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            blob = repository / "blobs" / f"{seed}-{name}"
            if name == "config.json":
                blob.write_text(json.dumps(CONFIG))
            elif name == "tokenizer.json":
                shutil.copyfile(TOKENIZER, blob)
            else:
                save_file(stored_weights(seed), blob, metadata={"format": "pt"})
            (snapshot / name).symlink_to(Path("../../blobs") / blob.name)
    yield root
    shutil.rmtree(root)  # 280 MB


def suite_in(artefacts: Path) -> Suite:
    checkpoints = []
    for revision, commit in REVISIONS.items():
        snapshot = artefacts / "hub/models--EleutherAI--pythia-70m/snapshots" / commit
        step = int(revision.removeprefix("step"))
        checkpoints.append(
            Checkpoint(
                suite="pythia-70m", revision=revision, step=step, tokens=step * 2_097_152,
                num_parameters=70_426_624,
                location=Location(scheme="hub", path="EleutherAI/pythia-70m", commit=commit),
                weights_sha256=combined_sha256(
                    {"model.safetensors": file_sha256(snapshot / "model.safetensors")}
                ),
                config_sha256=file_sha256(snapshot / "config.json"),
                tokenizer_sha256=file_sha256(snapshot / "tokenizer.json"),
            )
        )  # fmt: skip
    return Suite(name="pythia-70m", checkpoints=checkpoints)


def planned(artefacts: Path, text: Path) -> list[Point]:
    dataset = Dataset(
        name="text",
        kind="text",
        location=Location(scheme="path", path=str(text)),
        sha256=file_sha256(text),
        size_bytes=text.stat().st_size,
    )
    spec = GaussianPerturbation(
        suite="pythia-70m",
        gammas=[0.02],
        draws=1,
        scale="current_std",
        evaluation="text",
        window=WINDOW,
        stride=WINDOW,
    )
    return list(spec.plan(Catalogue(suite_in(artefacts), dataset)))


def plain_perplexity(
    folder: Path, ids: list[int], noise_seed: int | None = None, gamma: float = 0.0
) -> float:
    """Compute perplexity window by window with full logits in float64, noise added by hand."""
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(**{key: value for key, value in CONFIG.items() if key != "torch_dtype"})
    ).eval()
    state = {
        name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()
    }
    state["lm_head.weight"] = state.pop("embed_out.weight")
    if noise_seed is not None:
        for name, tensor in state.items():
            eps = standard_normal(noise_seed, name, tensor.numel()).view(tensor.shape)
            state[name] = tensor + gamma * tensor.double().std(correction=0).float() * eps
    model.load_state_dict(state)
    total, count = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(ids), WINDOW):
            window = torch.tensor(ids[start : start + WINDOW])
            log_p = model(window[None]).logits[0, :-1].double().log_softmax(-1)
            total -= float(log_p.gather(1, window[1:, None]).sum())
            count += len(window) - 1
    return math.exp(total / count)


def test_wikitext_has_the_published_number_of_tokens(artefacts: Path) -> None:
    dataset = Dataset(
        name="wikitext-2", kind="text", location=Location(scheme="path", path=str(WIKITEXT))
    )
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokens = tokens_of(dataset, tokenizer, artefacts)
    assert len(tokens) == 287_159
    assert tokenizer.encode("Hello world").ids == [12092, 1533]


def test_perplexity_before_and_after_noise_equals_a_plain_loop(
    artefacts: Path, tmp_path: Path
) -> None:
    text = tmp_path / "wiki.test.raw"
    text.write_bytes(WIKITEXT.read_bytes()[:800])
    ids = Tokenizer.from_file(str(TOKENIZER)).encode(text.read_bytes().decode()).ids
    assert WINDOW < len(ids) < 2 * WINDOW, "a whole window and a short one"
    context, found = InProcess(artefacts), {}
    for point in planned(artefacts, text)[:3]:  # both of step1000, the base of step143000
        result = GaussianPerturbation.run(point, context)
        assert result.metrics["num_tokens"] == len(ids) - 2
        found[point.labels["revision"], point.labels["gamma"]] = math.exp(
            result.metrics["nll_mean"]
        )
    snapshots = artefacts / "hub/models--EleutherAI--pythia-70m/snapshots"
    for revision, commit in REVISIONS.items():
        assert found[revision, 0.0] == pytest.approx(
            plain_perplexity(snapshots / commit, ids), rel=1e-4
        )
    expected = plain_perplexity(snapshots / REVISIONS["step1000"], ids, noise_seed=0, gamma=0.02)
    assert found["step1000", 0.02] == pytest.approx(expected, rel=1e-4)
    assert len({round(value, 3) for value in found.values()}) == 3
