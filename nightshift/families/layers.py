"""Layers of a model, for its summary before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

#: Part of the names of running statistics, which are kept with the weights and not trained.
RUNNING = ".running_"


@dataclass(frozen=True)
class Layer:
    """One row of a model's summary."""

    #: Its name, which its weights have before the point (`conv0` of `conv0.weight`) where it has any.
    name: str
    #: What it is, in a few words: `convolution 3x3, relu`.
    kind: str
    #: Shape of its output for one row of data: height, width, channels; or steps, units; None: any length.
    shape: tuple[int | None, ...]
    #: Numbers that are trained, and those that are kept with them and not trained (running statistics).
    parameters: int = 0
    fixed: int = 0
