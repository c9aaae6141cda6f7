"""Plan and measure the loss of a checkpoint on an evaluation set, for all experiment types.

    inputs = {
        "checkpoint": weights_of(checkpoint),
        "perturbation": None,  # the unperturbed model
        **evaluation_of(checkpoint, dataset, window=None, stride=None, precision="fp32"),
    }

The unperturbed loss of one checkpoint on one set is one measurement, which all experiments share.
Only measuring imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ucurve.experiments.evaluation_fields import MAX_SETS, names_of
from ucurve.registry.file_remarks import by_tokenizer
from ucurve.registry.suites import TOKENS_FOR, Checkpoint, Dataset, Suite
from ucurve.registry.tensors import config_words
from ucurve.spec import Catalogue, Context, Point, Result, SpecError

if TYPE_CHECKING:
    import torch

    from ucurve.modeling.checkpoints import LoadedCheckpoint

WINDOW = 1024
NO_INITIALIZER = (
    f"The config has none of {', '.join(config_words.INITIALIZER)}, and the suite has no "
    'checkpoint of step 0: use the noise scale "current_std", or register the checkpoint of step 0.'
)
LABELS = ("suite", "revision", "step", "tokens", "replicate", "phase")
# Series of every evaluation; figures and verdicts read those of the unperturbed models only.
WINDOWS = ("window_nll", "window_tokens")
# The loss per token in at most 32 blocks of windows, which goes with every row: the text's error.
BLOCKS = "block_loss"


def labels_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the columns that identify the checkpoint of a row."""
    return {name: getattr(checkpoint, name) for name in LABELS}


def weights_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what identifies a checkpoint in the inputs of a point."""
    return {"weights": checkpoint.weights_sha256, "config": checkpoint.config_sha256}


def usable_set(catalogue: Catalogue, name: str, field: str) -> Dataset:
    """Return the dataset of this name, with its hash. Raises SpecError."""
    dataset = catalogue.dataset(name, field=field)
    if dataset.unresolved or not dataset.sha256:
        raise SpecError(
            field, f"{name!r} is not usable: {dataset.unresolved or 'its hash is unknown'}."
        )
    return dataset


def usable_sets(
    catalogue: Catalogue, suite: Suite, evaluation: str | Sequence[str] | None
) -> list[Dataset]:
    """Return the evaluation sets of a spec, by default that of the suite. Raises SpecError."""
    names = names_of(evaluation) or names_of(suite.evaluation)
    if not names:
        raise SpecError("evaluation", f"{suite.name!r} has no evaluation set: name one.")
    datasets = [usable_set(catalogue, name, "evaluation") for name in names]
    by_content: dict[str | None, Dataset] = {}
    for dataset in datasets:
        same = by_content.setdefault(dataset.sha256, dataset)
        if same is not dataset:
            raise SpecError(
                "evaluation",
                f"{same.name!r} and {dataset.name!r} have the same contents: name one of them.",
            )
    return datasets


def label_of(dataset: Dataset, datasets: Sequence[Dataset]) -> dict[str, str]:
    """Return the column that tells evaluation sets apart; none for a single one."""
    return {"evaluation": dataset.name} if len(datasets) > 1 else {}


def evaluation_of(
    checkpoint: Checkpoint,
    dataset: Dataset,
    window: int | None,
    stride: int | None,
    precision: str,
    field: str = "evaluation",
) -> dict[str, Any]:
    """Return `evaluation` and `precision` of the inputs of a point.

    Raises SpecError naming `field` when the model cannot read the set.
    """
    if dataset.kind == "examples" or (
        dataset.kind == "language" and "rows" not in dataset.parameters
    ):
        raise SpecError(
            field, f"{dataset.name!r} is a training set: evaluate on a text or a held-out set."
        )
    if dataset.kind == "text" and checkpoint.tokenizer_sha256 is None:
        raise SpecError(
            field,
            f"{dataset.name!r} is a text, and {checkpoint.revision} has no tokenizer.json: copy "
            "that of the model into its folder, and register the suite again.",
        )
    if window and checkpoint.context and window > checkpoint.context:
        raise SpecError(
            "window", f"{checkpoint.revision} reads at most {checkpoint.context} tokens at once."
        )
    window = window or _default_window(checkpoint, dataset)
    return {
        "evaluation": {
            "protocol": "perplexity/1",
            "dataset": dataset.sha256,
            "tokenizer": checkpoint.tokenizer_sha256 if dataset.kind == "text" else None,
            "window": window,
            "stride": stride or window,
        },
        "precision": {"weights": "fp32", "evaluation": precision},
    }


def _default_window(checkpoint: Checkpoint, dataset: Dataset) -> int:
    """Return the window of a set, or the context of the model where that is shorter."""
    usual = 64 if dataset.kind == "language" else WINDOW
    return min(checkpoint.context or WINDOW, int(dataset.parameters.get("context", usual)))


def expect_one_curve(
    checkpoints: Sequence[Checkpoint], dataset: Dataset, window: int | None
) -> None:
    """Raise SpecError where the losses of checkpoints on a set are in different units.

    Nats per token of two tokenizers, or in windows of two lengths, make no curve.
    """
    if dataset.kind == "text":
        groups = by_tokenizer(checkpoints)
        if len(groups) > 1:
            first, other = (group[0].revision for group in groups[:2])
            raise SpecError(
                "checkpoints",
                f"{first} and {other} have different tokenizers, and nats per token of two "
                "tokenizers are no curve: list the checkpoints of one, measure the others in an "
                "experiment of their own and compare them in bits per byte; or, if it is the same "
                "tokenizer, copy one tokenizer.json to all and register the suite again.",
            )
    windows = {_default_window(c, dataset): c.revision for c in reversed(checkpoints)}
    if window is None and len(windows) > 1:
        short, long = min(windows), max(windows)
        raise SpecError(
            "window",
            f"{windows[short]} would be read in windows of {short} tokens and {windows[long]} of "
            f"{long}, which are no curve: give a window for all, at most {short}.",
        )


def seconds_of(checkpoint: Checkpoint, dataset: Dataset) -> float:
    """Estimate the seconds of one evaluation on one CPU core."""
    if dataset.kind == "language":
        tokens: float = int(dataset.parameters.get("rows", 1024)) * int(
            dataset.parameters.get("context", 64)
        )
    else:
        counted = dataset.parameters.get(f"{TOKENS_FOR}{checkpoint.suite}")
        tokens = float(counted or (dataset.size_bytes or 1e6) / 4.5)
    return 0.02 + tokens * (2e-6 + 2 * (checkpoint.num_parameters or 0) / 5e10)


def require_initializer(checkpoint: Checkpoint, field: str) -> None:
    """Raise SpecError naming `field` where a trial found no standard deviation of initialisation.

    Of suites that were never tried, which are those of earlier releases, nothing is known.
    """
    if checkpoint.structure and checkpoint.initializer_std is None:
        raise SpecError(field, f"{checkpoint.suite}/{checkpoint.revision}: {NO_INITIALIZER}")


def initializer_std(config: Mapping[str, Any]) -> float:
    """Return the standard deviation from which a model's matrices were drawn.

    The plan refuses a model without one where registration has tried it.
    """
    std = config_words.initializer_std(config)
    if std is None:
        raise ValueError(NO_INITIALIZER)
    return std


def loaded_for(point: Point, context: Context) -> LoadedCheckpoint:
    """Return the checkpoint of a point as a model, cached between points."""
    from ucurve.modeling.checkpoints import load

    checkpoint = Checkpoint.model_validate(point.artifacts["checkpoint"])
    return context.cached(
        f"checkpoint/{checkpoint.weights_sha256}/{checkpoint.config_sha256}",
        lambda: load(checkpoint, context.device, context.artefacts, context.progress),
    )


def expect_stored_names(point: Point, context: Context, loaded: LoadedCheckpoint) -> None:
    """Raise an error where the library has a name for a tensor that its files do not explain."""
    from ucurve.modeling import parameter_names
    from ucurve.modeling.checkpoints import local_copy
    from ucurve.registry.layouts import layout_in

    location = Checkpoint.model_validate(point.artifacts["checkpoint"]).location
    folder = local_copy(location, context.artefacts, context.progress)
    layout = layout_in(folder, context.artefacts, compare=False)
    parameter_names.expect_stored_names(loaded.model, layout)


def tokens_for(point: Point, context: Context, loaded: LoadedCheckpoint) -> torch.Tensor:
    """Return the evaluation set of a point in the model's tokens, cached between points."""
    from ucurve.modeling.token_data import tokens_of

    evaluation = point.inputs["evaluation"]
    dataset = Dataset.model_validate(point.artifacts["dataset"])
    # One object of the cache, or several sets would take the place of checkpoint and noise.
    sets: dict[tuple[str, str | None], torch.Tensor] = context.cached("tokens", dict)
    key = evaluation["dataset"], evaluation["tokenizer"]
    if key not in sets:
        while len(sets) >= MAX_SETS:
            del sets[next(iter(sets))]
        sets[key] = tokens_of(dataset, loaded.tokenizer, context.artefacts, context.progress)
    return sets[key]


def base(point: Point, context: Context) -> Result:
    """Measure the unperturbed model: its loss, and the RMS of its weights by tensor group."""
    from ucurve.modeling import perturb

    loaded = loaded_for(point, context)
    rms = {
        f"rms_{group}": value
        for group, value in perturb.rms_by_group(perturb.select(loaded.model)).items()
    }
    measured = measure(point, context, loaded)
    return Result(metrics={**measured.metrics, **rms}, series=measured.series)


def measure(
    point: Point,
    context: Context,
    loaded: LoadedCheckpoint,
    progress: Callable[[float, float], None] | None = None,
) -> Result:
    """Measure the loss of the model in its current state, window by window.

    progress: replaces that of the context when evaluation is only a part of the work.
    """
    from ucurve.modeling.perplexity import window_losses

    evaluation, precision = point.inputs["evaluation"], point.inputs["precision"]["evaluation"]
    tokens = tokens_for(point, context, loaded)
    losses_of = partial(
        window_losses, loaded.model, window=evaluation["window"], stride=evaluation["stride"]
    )
    losses = losses_of(tokens, precision=precision, progress=progress or context.progress)
    metrics = {"nll_mean": losses.nll_mean, "num_tokens": float(losses.num_tokens.sum())}
    if precision == "bf16":
        few = tokens[: 8 * evaluation["window"]]
        metrics["bf16_difference"] = (
            losses_of(few, precision="bf16").nll_mean - losses_of(few).nll_mean
        )
    return Result(
        metrics=metrics,
        series={
            "window_nll": losses.nll_sum.tolist(),
            "window_tokens": losses.num_tokens.tolist(),
            BLOCKS: losses.in_blocks().tolist(),
        },
    )
