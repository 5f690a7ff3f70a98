"""float32 is float32: in the process of a job no product or convolution may use TensorFloat-32, on any device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nightshift.testing import attempts
from tests.support.training import CASES, SERVER


@pytest.mark.parametrize("name", ["cnn-torch", "cnn-tensorflow"])
def test_a_job_forbids_tensorfloat_32(name: str, tmp_path: Path) -> None:
    pytest.importorskip(CASES[name].framework)
    order = (name, CASES[name].store(tmp_path / "datasets"), tmp_path / "allowed.json")
    assert attempts.run(SERVER, _build, order) == 0
    assert json.loads((tmp_path / "allowed.json").read_text()) == {"before": True, "after": False}


def _build(order: tuple[str, Path, Path]) -> None:
    """Write whether TensorFloat-32 may be used before a learner of a case is built, and after it."""
    name, data_set, path = order
    case = CASES[name]
    before = _is_allowed(case.framework)
    case.build(case.load_splits(data_set))
    path.write_text(json.dumps({"before": before, "after": _is_allowed(case.framework)}))


def _is_allowed(framework: str) -> bool:
    if framework == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.experimental.tensor_float_32_execution_enabled())
    import torch

    cudnn = torch.backends.cudnn
    kinds = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    return cudnn.allow_tf32 or any(kind.fp32_precision == "tf32" for kind in kinds)
