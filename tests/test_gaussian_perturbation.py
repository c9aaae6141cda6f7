"""Gaussian perturbation from spec to number: plans, and one loss computed independently."""

import hashlib
import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import Context
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.modeling.checkpoints import save
from ucurve.modeling.perturb import Noise, displacement_std, standard_normal
from ucurve.modeling.synthetic_language import WORDS
from ucurve.modeling.token_data import tokens_of
from ucurve.registry.artifacts import BUILTIN, file_sha256
from ucurve.registry.layouts import layout_in
from ucurve.registry.suites import Checkpoint, Dataset, Location, Remark, Suite
from ucurve.registry.tensors.tensor_layout import Layout
from ucurve.spec import Point, Result, SpecError

HELD_OUT = Dataset.model_validate(json.loads((BUILTIN / "datasets.json").read_text())[0])
FEW = HELD_OUT.model_copy(
    update={"name": "few", "parameters": {**HELD_OUT.parameters, "rows": 40}, "sha256": "f" * 64}
)
TEXT = Dataset(name="text", kind="text", sha256="e" * 64, size_bytes=1000)
TOKENS = [0, 1_000_000, 2_000_000, 4_000_000, 8_000_000]
EXAMPLE = {"suite": "paper", "gammas": [0.05, 0.1, 0.2, 0.3], "draws": 5}


def paper(**changes: Any) -> Suite:
    """Two replicates of five checkpoints each, hashes made up."""
    checkpoints = [
        Checkpoint(
            suite="paper", revision=f"seed{replicate}-tokens{tokens}",
            location=Location(scheme="path", path="/nowhere"), step=tokens // 1000, tokens=tokens,
            replicate=replicate, phase="annealed", num_parameters=46_592,
            weights_sha256=f"{replicate}-{tokens}", config_sha256="c",
        )
        for replicate, tokens in itertools.product((0, 1), TOKENS)
    ]  # fmt: skip
    return Suite(name="paper", checkpoints=checkpoints, evaluation="tiny-held-out").model_copy(
        update=changes
    )


@dataclass
class Catalogue:
    """Registered suites and sets, in memory."""

    suites: list[Suite]

    def suite(self, name: str, field: str = "suite") -> Suite:
        return next(suite for suite in self.suites if suite.name == name)

    def find_suite(self, name: str) -> Suite | None:
        return next((suite for suite in self.suites if suite.name == name), None)

    def dataset(self, name: str, field: str = "evaluation") -> Dataset:
        return {"tiny-held-out": HELD_OUT, "few": FEW, "text": TEXT}[name]


def planned(suite: Suite | None = None, **fields: Any) -> list[Point]:
    suite = suite or paper()
    return list(
        GaussianPerturbation(**{**EXAMPLE, "suite": suite.name, **fields}).plan(Catalogue([suite]))
    )


# ---- the plan


def test_the_base_is_measured_once_per_checkpoint_and_shared_by_all_conventions() -> None:
    points = planned()
    assert len(points) == 2 * 4 * (1 + 2 * 4 * 5)
    assert len({point.identity for point in points}) == len(points)
    bases = [
        {p.identity for p in planned(scale=scale) if p.labels["gamma"] == 0}
        for scale in ("both", "current_std", "init_std")
    ]
    assert bases[0] == bases[1] == bases[2]
    assert len(bases[0]) == 8
    assert {p.identity for p in planned(draws=3, gammas=[0.1])} < {
        point.identity for point in points
    }, "a smaller grid is a part"


def test_at_a_tenth_of_the_budget_every_curve_has_both_ends() -> None:
    points = sorted(planned(draws=8), key=lambda point: point.priority_stage)
    first = points[: len(points) // 10]
    ends = {
        (p.labels["replicate"], p.labels["scale"], p.labels["gamma"], p.labels["tokens"])
        for p in first
    }
    wanted = set(
        itertools.product(
            (0, 1), ("current_std", "init_std"), EXAMPLE["gammas"], (TOKENS[1], TOKENS[-1])
        )
    )
    assert wanted <= ends


def test_noise_is_common_to_checkpoints_gammas_and_conventions() -> None:
    seeds: dict[int, set[int]] = {}
    for point in planned(seed=7):
        if point.inputs["perturbation"]:
            seeds.setdefault(point.labels["draw"], set()).add(point.inputs["perturbation"]["seed"])
    assert seeds == {draw: {7 + draw} for draw in range(5)}


def test_init_std_names_the_step_0_weights_of_the_same_replicate_or_the_config() -> None:
    def initial(suite: Suite) -> set[tuple[int, str]]:
        points = planned(suite, scale="init_std")
        return {
            (p.labels["replicate"], p.inputs["perturbation"]["initial"])
            for p in points
            if p.inputs["perturbation"]
        }

    assert initial(paper()) == {(0, "0-0"), (1, "1-0")}
    without = [
        checkpoint for checkpoint in paper().checkpoints if checkpoint.revision != "seed1-tokens0"
    ]
    assert initial(paper(checkpoints=without)) == {(0, "0-0"), (1, "config")}
    trained = Remark(kind="initialisation", revisions=["seed0-tokens0"], message="it is trained")
    assert initial(paper(remarks=[trained])) == {(0, "config"), (1, "1-0")}


def test_checkpoints_are_all_or_log_spaced_or_listed_and_step_0_only_if_listed() -> None:
    def tokens(**fields: Any) -> list[int]:
        return sorted(
            p.labels["tokens"]
            for p in planned(**fields)
            if p.labels["gamma"] == 0 and p.labels["replicate"] == 0
        )

    assert tokens() == TOKENS[1:]
    assert tokens(checkpoints={"log_spaced": 2}) == [TOKENS[1], TOKENS[-1]]
    assert tokens(checkpoints=["seed0-tokens0", "seed0-tokens4000000"]) == [0, 4_000_000]


def test_what_cannot_be_planned_is_refused_with_field_reason_and_remedy() -> None:
    def refusal(suite: Suite | None = None, **fields: Any) -> tuple[str, str]:
        with pytest.raises(SpecError) as error:
            planned(suite, **fields)
        return error.value.field, error.value.message

    def broken(*indices: int) -> Suite:
        whole = paper().checkpoints
        hidden = {"weights_sha256": None, "unresolved": "not plannable: no weights"}
        return paper(
            checkpoints=[
                c.model_copy(update=hidden) if i in indices else c for i, c in enumerate(whole)
            ]
        )

    assert refusal(broken(*range(10))) == (
        "suite",
        "No checkpoint of 'paper' can be planned yet: not plannable: no weights.",
    )
    where, message = refusal(broken(2))
    assert where == "checkpoints"
    assert (
        "seed0-tokens2000000 cannot be planned yet: not plannable: no weights. "
        "Wait, or give checkpoints as a list" in message
    )
    assert planned(broken(2), checkpoints={"log_spaced": 4}), "the remedy works"
    assert refusal(checkpoints=["nothing"]) == ("checkpoints", "'paper' has no revision nothing.")
    assert refusal(paper(evaluation=None))[0] == "evaluation"
    assert "no tokenizer.json" in refusal(evaluation="text")[1]
    for wrong in (
        {"gammas": []},
        {"gammas": [-0.1]},
        {"draws": 0},
        {"window": 64, "stride": 65},
        {"colour": "red"},
    ):
        with pytest.raises(ValidationError):
            GaussianPerturbation(**wrong)


# ---- one number


def model_of(seed: int, factor: float = 0.11) -> GPTNeoXForCausalLM:
    """Weights from the noise generator, so that they are the same for every version of torch."""
    config = GPTNeoXConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.11,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            parameter.data = factor * standard_normal(
                seed, f"test/{name}", parameter.numel()
            ).view_as(parameter)
    return model


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Context]:
    """A suite on disk: step 0 and two later checkpoints with larger weights."""
    artefacts = tmp_path_factory.mktemp("artefacts")
    checkpoints = []
    for step, factor in ((0, 0.11), (10, 0.3), (20, 0.6)):
        location = Location(scheme="artefacts", path=f"suites/real/step{step}")
        saved = save(model_of(step, factor), artefacts / location.path)
        place = {"suite": "real", "revision": f"step{step}", "step": step, "tokens": step * 1000}
        checkpoints.append(Checkpoint(location=location, **place, **asdict(saved)))
    return Suite(name="real", checkpoints=checkpoints, evaluation="few"), Context(artefacts)


def point_of(suite: Suite, precision: str = "fp32", **labels: Any) -> Point:
    points = planned(
        suite, gammas=[0.1, 0.5], draws=2, by_group=True, scale="all", precision=precision
    )
    [point] = [p for p in points if labels.items() <= p.labels.items()]
    return point


def measured(real: tuple[Suite, Context], **labels: Any) -> Result:
    return GaussianPerturbation.run(point_of(real[0], **labels), real[1])


@pytest.mark.parametrize("scale", ["current_std", "init_std"])
def test_a_perturbed_loss_is_what_numpy_and_a_plain_loop_give(
    real: tuple[Suite, Context], scale: str
) -> None:
    """Read sigma from the files, add noise in float64 and sum the loss token by token."""
    context = real[1]
    folder = context.artefacts / "suites/real"
    initial = load_file(folder / "step0/model.safetensors")
    model = model_of(0)
    state = load_file(folder / "step20/model.safetensors")
    for name, weight in state.items():
        source = weight if scale == "current_std" else initial[name]
        eps = standard_normal(1, name, weight.numel()).numpy().reshape(weight.shape)
        state[name] = torch.from_numpy(
            weight.numpy() + 0.5 * np.std(source.numpy().astype(float)) * eps
        ).float()
    model.load_state_dict(state)
    model.eval()
    total, count = 0.0, 0
    for row in tokens_of(FEW, None, context.artefacts).view(40, 64):
        with torch.no_grad():
            log_p = model(row[None]).logits[0].double().log_softmax(-1)
        total -= sum(float(log_p[i, row[i + 1]]) for i in range(63))
        count += 63
    found = measured(real, revision="step20", scale=scale, gamma=0.5, draw=1, group="all")
    assert found.metrics["num_tokens"] == count == 40 * 63
    assert found.metrics["nll_mean"] == pytest.approx(total / count, rel=1e-5)
    assert sum(found.series["window_nll"]) == pytest.approx(total, rel=1e-5)
    assert len(found.series["block_loss"]) == 32
    assert np.mean(found.series["block_loss"]) == pytest.approx(total / count, rel=1e-5)


def test_matched_displacement_moves_all_matrices_by_gamma_times_their_length(
    real: tuple[Suite, Context],
) -> None:
    """Length of matrices and noise from the files, in float64; the loss from a plain forward."""
    context = real[1]
    state = load_file(context.artefacts / "suites/real/step20/model.safetensors")
    before = {name: w.double().numpy() for name, w in state.items() if w.dim() > 1}
    eps = {
        name: standard_normal(1, name, weight.size).double().numpy().reshape(weight.shape)
        for name, weight in before.items()
    }
    flat = [np.concatenate([w.ravel() for w in part.values()]) for part in (before, eps)]
    sigma = np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    after = {n: torch.from_numpy(w + 0.5 * sigma * eps[n]).float() for n, w in before.items()}
    model = model_of(0)
    model.load_state_dict({**state, **after})
    model.eval()
    rows = tokens_of(FEW, None, context.artefacts).view(40, 64)
    with torch.no_grad():
        log_p = model(rows).logits[:, :-1].double().log_softmax(-1)
    expected = -float(log_p.gather(-1, rows[:, 1:, None]).mean())
    labels = {"scale": "matched_displacement", "gamma": 0.5, "draw": 1, "group": "all"}
    found = measured(real, revision="step20", **labels)
    assert found.metrics["nll_mean"] == pytest.approx(expected, rel=1e-5)
    others = []
    for revision, gamma, draw in itertools.product(("step10", "step20"), (0.1, 0.5), (0, 1)):
        cell = {"revision": revision, "gamma": gamma, "draw": draw, "group": "all"}
        moved = measured(real, **{**labels, **cell}).metrics["relative_change"]
        assert moved == pytest.approx(gamma, rel=1e-6)
        others.append(measured(real, **{**cell, "scale": "init_std"}).metrics["relative_change"])
    assert max(others) > 7 * min(others), "the other convention does not"


def test_the_third_convention_leaves_identities_and_pairs_its_draws(
    real: tuple[Suite, Context],
) -> None:
    both, three = planned(by_group=True), planned(by_group=True, scale="all")
    kept = [p for p in three if p.labels["scale"] != "matched_displacement"]
    assert [(p.identity, p.labels) for p in kept] == [(p.identity, p.labels) for p in both]
    added = {p.identity: p for p in three if p.labels["scale"] == "matched_displacement"}
    assert not added.keys() & {p.identity for p in both}
    alone = planned(by_group=True, scale="matched_displacement")
    assert added.keys() == {p.identity for p in alone if p.labels["gamma"]}
    for point in added.values():
        change = point.inputs["perturbation"]
        assert change["protocol"] == "matched_displacement/1"
        assert change["initial"] is None
        assert change["seed"] == point.labels["draw"]
    assert {p.labels["group"] for p in added.values()} == {
        "all", "embedding", "attention", "mlp", "unembedding"
    }, "norms have no matrices"  # fmt: skip
    spec = GaussianPerturbation(**{**EXAMPLE, "by_group": True, "scale": "all"})
    assert spec.count(Catalogue([paper()])) == len(three)
    no_start = paper(checkpoints=[c for c in paper().checkpoints if c.tokens])
    assert planned(no_start, scale="matched_displacement"), "it needs no step 0"


def test_without_matrices_or_with_zeros_only_there_is_no_displacement_to_match(
    real: tuple[Suite, Context], published: tuple[Suite, Context]
) -> None:
    suite, context = real
    fields = {"gammas": [0.1], "scale": "matched_displacement", "include": ["*.bias"]}
    point = next(p for p in planned(suite, **fields) if p.labels["gamma"])
    with pytest.raises(ValueError, match="no parameter is selected by which='matrices'"):
        GaussianPerturbation.run(point, context)
    with pytest.raises(SpecError, match="No matrix of 'real' is left, and matched_displ") as error:
        planned(published[0], **fields)
    assert error.value.field == "include"
    zeros = {"w": torch.zeros(3, 4), "v": torch.zeros(5, 2)}
    with pytest.raises(ValueError, match=r"all selected weights are 0.*include and exclude"):
        displacement_std(zeros, Noise(0))
    zeros["v"][0, 0] = 2.0
    assert len(set(displacement_std(zeros, Noise(0)).values())) == 1


GOLDEN = {
    "base": 6.371631487589034,
    "current_std": 6.513026500694336,
    "init_std": 6.35180042726653,
    "matched_displacement": 6.5089917141293725,
}


def test_numbers_do_not_move_without_a_new_version_of_the_protocol(
    real: tuple[Suite, Context],
) -> None:
    found = {"base": measured(real, revision="step10", gamma=0.0).metrics["nll_mean"]}
    for scale in ("current_std", "init_std", "matched_displacement"):
        labels = {"revision": "step10", "scale": scale, "gamma": 0.5, "draw": 0, "group": "all"}
        found[scale] = measured(real, **labels).metrics["nll_mean"]
    assert found == pytest.approx(GOLDEN, rel=1e-6), (
        "raise the version in perplexity/1, gaussian/1 or matched_displacement/1, then these"
    )


def test_the_same_point_gives_the_same_number_and_leaves_the_weights_as_they_were(
    real: tuple[Suite, Context],
) -> None:
    suite, context = real
    base = measured(real, revision="step20", gamma=0.0)
    loaded = context.kept[
        next(key for key in context.kept if suite.checkpoints[2].weights_sha256 in key)
    ]
    before = {
        name: hashlib.sha256(value.numpy().tobytes()).hexdigest()
        for name, value in loaded.model.state_dict().items()
    }
    first = measured(real, revision="step20", scale="init_std", gamma=0.1, draw=0, group="all")
    measured(real, revision="step20", scale="current_std", gamma=0.5, draw=1, group="all")
    measured(real, revision="step20", scale="current_std", gamma=0.5, draw=0, group="attention")
    again = measured(real, revision="step20", scale="init_std", gamma=0.1, draw=0, group="all")
    fresh = measured(
        (suite, Context(context.artefacts)),
        revision="step20",
        scale="init_std",
        gamma=0.1,
        draw=0,
        group="all",
    )
    assert first == again == fresh
    assert {
        name: hashlib.sha256(value.numpy().tobytes()).hexdigest()
        for name, value in loaded.model.state_dict().items()
    } == before
    assert measured(real, revision="step20", gamma=0.0) == base
    assert context.calls[-1][0] == context.calls[-1][1] == 40 * 64


def test_bf16_is_another_measurement_and_reports_its_difference(
    real: tuple[Suite, Context],
) -> None:
    labels = {"revision": "step20", "scale": "current_std", "gamma": 0.5, "draw": 0, "group": "all"}
    exact, rounded = measured(real, **labels), measured(real, precision="bf16", **labels)
    assert point_of(real[0], **labels).identity != point_of(real[0], "bf16", **labels).identity
    few = slice(0, 8)  # windows
    difference = sum(rounded.series["window_nll"][few]) - sum(exact.series["window_nll"][few])
    assert rounded.metrics["bf16_difference"] == pytest.approx(difference / (8 * 63), abs=1e-5)
    assert rounded.metrics["nll_mean"] == pytest.approx(exact.metrics["nll_mean"], rel=0.01)


def test_a_tensor_group_alone_is_perturbed_as_it_is_among_all(real: tuple[Suite, Context]) -> None:
    changes = {
        group: measured(
            real, revision="step10", scale="current_std", gamma=0.5, draw=0, group=group
        ).metrics["relative_change"]
        for group in ("embedding", "attention", "mlp", "unembedding")
    }
    assert changes == pytest.approx(dict.fromkeys(changes, 0.5), rel=0.1)
    groups = {
        p.labels["group"] for p in planned(by_group=True, scale="init_std") if p.labels["gamma"]
    }
    assert "norm" not in groups, "constant at initialisation: no noise, nothing to measure"


# ---- names of tensors in files


@pytest.fixture(scope="module")
def published(real: tuple[Suite, Context]) -> tuple[Suite, Context]:
    """The same weights, named as the files of Pythia name them, with the layouts of the files."""
    suite, context = real
    checkpoints, layouts = [], {}
    for checkpoint in suite.checkpoints:
        folder = context.artefacts / checkpoint.location.path
        path = folder.parent.parent / "published" / checkpoint.revision
        path.mkdir(parents=True)
        (path / "config.json").write_bytes((folder / "config.json").read_bytes())
        weights = load_file(folder / "model.safetensors")
        weights["embed_out.weight"] = weights.pop("lm_head.weight")
        save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
        layout = layout_in(path, context.artefacts)
        assert layout
        layouts[layout.sha256] = layout
        changes = {
            "location": Location(
                scheme="artefacts", path=f"suites/published/{checkpoint.revision}"
            ),
            "weights_sha256": file_sha256(path / "model.safetensors"),
            "layout_sha256": layout.sha256,
        }
        checkpoints.append(checkpoint.model_copy(update=changes))
    return suite.model_copy(update={"checkpoints": checkpoints}).with_layouts(layouts), context


def change_of(point: Point) -> dict[str, Any]:
    change: dict[str, Any] = point.inputs["perturbation"]
    return change


PUBLISHED = {"current_std": 6.539545182860087, "init_std": 6.357953601980967}


def test_noise_on_published_files_has_a_version_of_its_own(
    real: tuple[Suite, Context], published: tuple[Suite, Context]
) -> None:
    """The unembedding's stream is that of its name in the file; all others are as before."""
    found = {}
    for scale in ("current_std", "init_std"):
        labels = {"revision": "step10", "scale": scale, "gamma": 0.5, "draw": 0, "group": "all"}
        assert change_of(point_of(published[0], **labels))["protocol"] == "gaussian/2"
        found[scale] = measured(published, **labels).metrics["nll_mean"]
        assert found[scale] != pytest.approx(measured(real, **labels).metrics["nll_mean"], rel=1e-4)
        labels["group"] = "unembedding"
        assert change_of(point_of(published[0], **labels))["protocol"] == "gaussian/2"
        for group in ("attention", "mlp", "embedding"):
            labels["group"] = group
            old, new = (point_of(suite, **labels) for suite in (real[0], published[0]))
            assert change_of(new)["protocol"] == "gaussian/1"
            if scale == "current_std":
                assert change_of(old) == change_of(new)
    assert found == pytest.approx(PUBLISHED, rel=1e-6), "raise the version in gaussian/2"


def test_a_loss_under_canonical_names_is_what_numpy_and_a_plain_loop_give(
    published: tuple[Suite, Context],
) -> None:
    context = published[1]
    state = load_file(context.artefacts / "suites/published/step20/model.safetensors")
    for name, weight in state.items():
        eps = standard_normal(1, name, weight.numel()).numpy().reshape(weight.shape)
        state[name] = torch.from_numpy(
            weight.numpy() + 0.5 * np.std(weight.numpy().astype(float)) * eps
        ).float()
    state["lm_head.weight"] = state.pop("embed_out.weight")
    model = model_of(0)
    model.load_state_dict(state)
    model.eval()
    rows = tokens_of(FEW, None, context.artefacts).view(40, 64)
    with torch.no_grad():
        log_p = model(rows).logits[:, :-1].double().log_softmax(-1)
    expected = -float(log_p.gather(-1, rows[:, 1:, None]).mean())
    labels = {"revision": "step20", "scale": "current_std", "gamma": 0.5, "draw": 1, "group": "all"}
    assert measured(published, **labels).metrics["nll_mean"] == pytest.approx(expected, rel=1e-5)


def test_a_pattern_of_the_file_excludes_and_one_without_match_is_refused(
    published: tuple[Suite, Context],
) -> None:
    suite, context = published
    by_file, by_library, everything = (
        next(
            p
            for p in planned(suite, gammas=[0.5], scale="current_std", exclude=exclude)
            if p.labels["gamma"] and p.labels["revision"] == "step10"
        )
        for exclude in (["*embed_out*"], ["*lm_head*"], [])
    )
    assert change_of(by_library)["protocol"] == "gaussian/1", "as it was always understood"
    assert change_of(by_file)["protocol"] == "gaussian/2"
    excluded = GaussianPerturbation.run(by_file, context)
    assert excluded == GaussianPerturbation.run(by_library, context)
    assert excluded != GaussianPerturbation.run(everything, context)

    def refusal(**fields: Any) -> tuple[str, str]:
        with pytest.raises(SpecError) as error:
            planned(suite, **fields)
        return error.value.field, error.value.message

    field, message = refusal(exclude=["*bias", "*embed_ot*"])
    assert field == "exclude/1"
    assert message.startswith("'*embed_ot*' matches none of the 16 tensors of 'real'.")
    assert "embed_out.weight" in message
    assert refusal(include=["*fc1*"])[0] == "include/0"
    assert refusal(include=["*embed_out*"], exclude=["lm_head.weight"]) == (
        "exclude",
        "No tensor of 'real' is left to perturb: change tensors, include or exclude.",
    )
    assert refusal(include=["*bias"], tensors="matrices")[0] == "include"


def test_stored_names_leave_identities_where_the_numbers_are_the_same(
    real: tuple[Suite, Context],
) -> None:
    """A lab that reads the names of its tensors measures nothing again."""
    suite, context = real
    layout = layout_in(context.artefacts / "suites/real/step10", context.artefacts)
    assert layout
    checkpoints = [c.model_copy(update={"layout_sha256": layout.sha256}) for c in suite.checkpoints]
    known = suite.model_copy(update={"checkpoints": checkpoints})
    known = known.with_layouts({layout.sha256: layout})
    for fields in ({"by_group": True}, {"include": ["*.mlp.*"]}, {"tensors": "matrices"}):
        assert [p.identity for p in planned(known, **fields)] == [
            p.identity for p in planned(suite, **fields)
        ]


@pytest.mark.parametrize(
    ("architecture", "groups", "words"),
    [
        ("gpt2", ["embedding", "attention", "mlp", "norm"], "no unembedding of its own"),
        ("olmo", ["embedding", "attention", "mlp", "unembedding"], "no norm with weights"),
        ("opt", ["embedding", "attention", "mlp", "norm"], "no unembedding of its own"),
        ("mamba", ["embedding", "mixer", "norm"], "no attention and no MLP and no unembedding"),
    ],
)
def test_groups_that_a_model_has_not_are_not_planned_and_said(
    architecture: str, groups: list[str], words: str
) -> None:
    recorded = json.loads((Path(__file__).parent / "tensor_names/5.24.0.json").read_text())
    layout = Layout(architecture=architecture, tied=None, tensors=recorded[architecture]["file"])
    checkpoints = [
        c.model_copy(update={"layout_sha256": layout.sha256}) for c in paper().checkpoints
    ]
    suite = paper(checkpoints=checkpoints).with_layouts({layout.sha256: layout})
    spec = GaussianPerturbation(**{**EXAMPLE, "suite": "paper"}, by_group=True)
    points = list(spec.plan(Catalogue([suite])))
    assert len(points) == spec.count(Catalogue([suite]))
    found = {p.labels["group"] for p in points if p.labels["scale"] == "current_std"} - {"all"}
    assert found == set(groups)
    (warning,) = spec.warnings(Catalogue([suite]))
    assert warning.startswith("by_group: paper has ")
    assert words in warning


def test_unknown_names_are_said_where_they_matter() -> None:
    (warning,) = GaussianPerturbation(suite="paper", exclude=["*embed*"], by_group=True).warnings(
        Catalogue([paper()])
    )
    assert warning.startswith("exclude and by_group: the names of the tensors of paper are not")
    assert GaussianPerturbation(suite="paper").warnings(Catalogue([paper()])) == []
