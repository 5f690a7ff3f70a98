"""Batch inference with the largest batch that fits: the predictions of a CPU, and a line that says how many rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.testing import devices
from nightshift.testing.cases import Case
from nightshift.testing.fixtures import held_out
from shared.specs.families import FAMILIES
from shared.specs.jobs import AUTO_BATCH, Inference
from tests.support.predicted_rows import Plenty, PredictedRows
from worker.kinds.device_batch import FittedSource, memory_of

#: Rows of a chunk, and of the whole job.
CHUNK, ROWS = 8 * AUTO_BATCH, 20 * AUTO_BATCH
#: Largest difference of a prediction, relative above 1.
TOLERANCE = 1e-4


def test_auto_predicts_what_a_cpu_predicts(
    case: Case, data_sets: Callable[[Case], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "predict" not in FAMILIES[case.family].tasks:
        pytest.skip("the family predicts nothing")
    splits = case.load_splits(data_sets(case))
    found = next(iter(held_out(splits).values()))
    rows = found[np.arange(ROWS) % len(found)]
    learner, lines = case.build(splits), list[str]()
    memory = memory_of(case.framework) if devices.kind() == "gpu" else Plenty()
    source: Any = FittedSource(
        partial(PredictedRows, learner, rows), Inference(), memory, lambda line, level="info": lines.append(line)
    )
    ours = np.concatenate([source.rows(at, min(ROWS, at + CHUNK))[0] for at in range(0, ROWS, CHUNK)])
    assert [line for line in lines if line.endswith("rows at a time")]
    monkeypatch.setattr(devices, "kind", lambda: "cpu")
    on_cpu = case.build(splits)
    on_cpu.load_weights(learner.weights())
    np.testing.assert_allclose(ours, on_cpu.predict(rows, AUTO_BATCH), rtol=TOLERANCE, atol=TOLERANCE)
