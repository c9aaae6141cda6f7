"""Fields of a spec that say how a model is fine-tuned: data, method, length, optimiser."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from ucurve.experiments.fine_tuning_optimisers import OptimiserName
from ucurve.spec import ADVANCED, Name

Rate = Annotated[float, Field(gt=0, le=10)]
Seed = Annotated[int, Field(ge=0, le=2**31)]
Method = Literal["full", "head", "lora", "l2_sp", "ewc"]
Task = Literal["language_modelling", "label_words", "linear_head"]
TrainingData: TypeAlias = Annotated[
    Name | None,
    Field(
        title="Training dataset",
        description="Default: tiny-redrawn or tiny-sentiment for suites of the built-in language, "
        "else sst2.",
        json_schema_extra={"widget": "dataset"},
    ),
]
Epochs: TypeAlias = Annotated[
    float | None, Field(gt=0, le=1000, description="Default: 3, unless steps are given.")
]
TrainingSteps: TypeAlias = Annotated[
    int | None,
    Field(ge=1, le=1_000_000, description="Instead of epochs. Default for endless data: 200."),
]
BatchRows: TypeAlias = Annotated[
    int | None,
    Field(
        ge=1,
        le=4096,
        title="Batch size",
        description="Rows per step. Default: 32, or 16 for language modelling.",
    ),
]
EwcData: TypeAlias = Annotated[
    Name | None,
    Field(
        title="EWC data",
        description="Pre-training text for the Fisher information. Default: tiny-language; "
        "required for other suites.",
        json_schema_extra={"widget": "dataset", **ADVANCED},
    ),
]
Optimiser: TypeAlias = Annotated[
    OptimiserName,
    Field(
        description="sgd: without momentum. lion: steps by the sign, at learning rates 3 to 10 "
        "times smaller than AdamW's (Chen et al. 2023). muon: orthogonal steps of hidden matrices, "
        "AdamW for the rest, both at AdamW's learning rates (Liu et al. 2025); not for methods "
        "lora and head. On tiny, sgd_momentum was best at 100 times, sgd at 1000 times AdamW's "
        "default.",
    ),
]
Momentum: TypeAlias = Annotated[
    float | None,
    Field(
        gt=0,
        lt=1,
        description="Of sgd_momentum (default 0.9) and muon (default 0.95).",
        json_schema_extra=ADVANCED,
    ),
]
