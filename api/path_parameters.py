"""Path parameters that several routes share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

ExperimentId = Annotated[int, Path(description="Number of the experiment, such as 7 for #7.")]
MeasurementId = Annotated[int, Path(description="Id of the measurement, as in its row.")]
