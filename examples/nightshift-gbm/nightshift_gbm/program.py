"""The declaration of the program. It imports no library of machine learning: the API reads it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from nightshift.programs import Program, Trial


class Params(BaseModel):
    """The parameters of a job."""

    model_config = ConfigDict(strict=True, extra="forbid")

    target: str = Field(min_length=1, description="The column to predict.")
    task: Literal["auto", "classification", "regression"] = Field(
        "auto", description="auto: classification for text, true/false and whole numbers of at most 20 values."
    )
    trees: int = Field(100, ge=1, le=100_000, description="Boosting stages.")
    depth: int = Field(3, ge=1, le=32)
    learning_rate: float = Field(0.1, gt=0, le=1)
    trees_per_checkpoint: int = Field(10, ge=1, description="Stages between two checkpoints and two metric rows.")
    test_share: float = Field(0.2, gt=0, lt=0.9, description="Rows for the test; half as many validate.")


#: A table of two columns that a third follows from, for `nightshift programs check gbm`.
_ROWS = [(row % 17, row % 5) for row in range(120)]
_TABLE = "a,b,y\n" + "".join(f"{a},{b},{a * 0.5 - b}\n" for a, b in _ROWS)

PROGRAM = Program(
    name="gbm",
    train="nightshift_gbm.training:train",
    params=Params,
    description="Gradient boosting on a table (scikit-learn).",
    dataset_kinds=("table",),
    promise="exact",
    trial=Trial(params={"target": "y", "trees": 40, "trees_per_checkpoint": 1}, files={"table.csv": _TABLE}),
)
