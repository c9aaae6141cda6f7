"""Select the datasets of a fine-tuning spec and check that the models can read them.

sets = select_datasets(spec, catalogue, ["tiny-held-out"], checkpoints)
sets.data.name  # "tiny-redrawn": the default of language modelling on the built-in language
"""

from __future__ import annotations

from typing import NamedTuple

from ucurve.experiments.evaluation_points import usable_set
from ucurve.experiments.fine_tuning_fields import TuningFields
from ucurve.registry.suites import Checkpoint, Dataset
from ucurve.spec import Catalogue, SpecError


class FinetuningDatasets(NamedTuple):
    """Datasets to fine-tune on, to measure forgetting on, and to estimate EWC's Fisher from."""

    data: Dataset
    evaluations: list[Dataset]
    ewc: Dataset | None


def select_datasets(
    spec: TuningFields, catalogue: Catalogue, evaluations: list[str], checkpoints: list[Checkpoint]
) -> FinetuningDatasets:
    """Return the datasets of a spec. Raises SpecError naming the field that does not fit."""
    language = all(checkpoint.tokenizer_sha256 is None for checkpoint in checkpoints)
    data = _training_set(spec, catalogue, language)
    ewc = None
    if "ewc" in spec.methods:
        if not spec.ewc_data and not language:
            raise SpecError(
                "ewc_data",
                "Name a text like the pre-training data: EWC estimates there which weights matter.",
            )
        ewc = usable_set(catalogue, spec.ewc_data or "tiny-language", "ewc_data")
    return FinetuningDatasets(
        data, [usable_set(catalogue, name, "evaluations") for name in evaluations], ewc
    )


def _training_set(spec: TuningFields, catalogue: Catalogue, language: bool) -> Dataset:
    """Return the dataset to fine-tune on.

    language: the models read tokens of the built-in language instead of text.
    """
    built_in = "tiny-redrawn" if spec.task == "language_modelling" else "tiny-sentiment"
    if spec.data or language:
        data = usable_set(catalogue, spec.data or built_in, "data")
    else:
        data = _default_examples(catalogue)
    if language != (data.kind == "language"):
        content = "text" if language else "made of the built-in language's own tokens"
        raise SpecError(
            "data",
            f"{data.name!r} is {content}, which the models of {spec.suite!r} cannot read.",
        )
    _check_classes(spec, data, language)
    if spec.epochs and data.kind == "language":
        raise SpecError("epochs", f"{data.name!r} is endless: give steps.")
    return data


def _default_examples(catalogue: Catalogue) -> Dataset:
    """Return the default of models that read text, which no lab has from the start."""
    try:
        return usable_set(catalogue, "sst2", "data")
    except SpecError as error:
        raise SpecError("data", f"{error} Or choose a text of your own.") from None


def _check_classes(spec: TuningFields, data: Dataset, language: bool) -> None:
    """Raise SpecError when the classes of the dataset do not fit the task."""
    sentiment = data.parameters.get("task") == "sentiment"
    classes = 2 if sentiment else int(data.parameters.get("classes", 0))
    if spec.task != "language_modelling" and not classes:
        raise SpecError(
            "data",
            f"{data.name!r} has no classes, which {spec.task} needs: use language_modelling.",
        )
    if spec.task == "language_modelling" and classes and language:
        raise SpecError("data", f"{data.name!r} has classes: use label_words or linear_head.")
    if spec.task != "language_modelling" and not language and classes != len(spec.label_words):
        raise SpecError("label_words", f"{data.name!r} has {classes} classes: give as many words.")
