"""How the conformance kit tries a family: a small case that takes seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A small run of a family, with everything enabled that has state (dropout, schedules, augmentations).

    It should take 40 steps or more, each as fast as may be: `nightshift.testing` runs it a dozen times on one CPU
    thread.
    """

    #: Fields of `model`, without family and framework.
    model: Mapping[str, Any] = field(default_factory=dict)
    #: Fields of `training`.
    training: Mapping[str, Any] = field(default_factory=dict)
    #: Fields of `inference`, for each task that is tried.
    inference: Sequence[Mapping[str, Any]] = ()
    #: `"package.module:function"` of an empty folder: stores a data set there and returns its folder. None: the
    #: built-in digits, or a short generated text.
    dataset: str | None = None
    #: How much a resumed run may differ on a GPU, where no two runs are equal to the last bit: each array and metric,
    #: relative to its largest value. The default is for networks with products in bfloat16.
    gpu_tolerance: float = 0.02
