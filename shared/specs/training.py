"""Training settings: hyper-parameters, early stopping, checkpoints, resources."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nightshift.families.fields import Count, Spec
from shared.specs.base import DeviceLabel, Label, Seconds


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return how many optimizer steps see each row once; the last batch may be smaller."""
    return -(-rows // batch_size)


def held_out(rows: int, share: float) -> int:
    """Return the rows of a `validation_split`: at least one if the share is above 0, and never all."""
    return min(max(1, round(rows * share)), rows - 1) if share > 0 else 0


class CheckpointPolicy(Spec):
    """When checkpoints are written, and which are kept."""

    every_steps: Count | None = None
    every_seconds: Seconds | None = 60.0
    keep_last: Annotated[int, Field(ge=1, le=1_000)] = 2
    keep_best: bool = True


class Resources(Spec):
    """Devices that a job requires."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[int, Field(ge=1, le=64, description="Devices of one host that train together.")] = 1
    memory_gb: Annotated[
        float | None, Field(gt=0, le=100_000, description="Least memory of each device (GB: 1,000,000,000 bytes).")
    ] = None
    model: Annotated[Label | None, Field(max_length=60, description="Part of each device's name, e.g. `A100`.")] = None
    labels: Annotated[
        list[DeviceLabel], Field(max_length=8, description="Labels that each device must have (`NIGHTSHIFT_LABELS`).")
    ] = []
    gpus: Annotated[int, Field(ge=1, le=1, description="Of before `devices`, which replaces it.")] = 1
