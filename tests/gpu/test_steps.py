"""Steps and evaluation in torch wait for the GPU nowhere: torch raises an error where they would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from nightshift.families.optimizers import Optimizer
from nightshift.testing import devices
from nightshift.testing.cases import Case

#: Steps after which every kernel is chosen and all memory is reserved.
WARM = 3


@contextmanager
def never_waiting() -> Iterator[None]:
    """Raise an error where torch waits for the GPU."""
    if devices.kind() == "cpu":
        yield
        return
    import torch

    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@pytest.mark.parametrize("optimizer", get_args(Optimizer))
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_step_waits_for_the_gpu(
    torch_case: Case, optimizer: str, precision: str, data_sets: Callable[[Case], Path]
) -> None:
    case = torch_case  # TensorFlow has no such check
    splits = case.load_splits(data_sets(case))
    learner = case.build(splits, optimizer=optimizer, precision=precision, learning_rate=0.001, grad_clip=1.0)
    learner.set_data(splits.train)
    for step in range(WARM):
        learner.train_step(np.arange(8), step)
    with never_waiting():
        for step in range(WARM, 2 * WARM):
            learner.train_step(np.arange(8), step)
    assert np.isfinite(list(learner.read_metrics().values())).all()
