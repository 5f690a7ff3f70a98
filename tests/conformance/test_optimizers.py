"""An optimizer's name means one update rule: five steps on the same gradients end at the same weights."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from nightshift.families.training import Optimizer, Training
from tests.support.frameworks import THREADS

torch = pytest.importorskip("torch")
tf = pytest.importorskip("tensorflow")

#: Gradients from large to so small that epsilon decides.
SCALES = (3.0, 1e-2, 1e-6, 1e-8)


def gradients() -> np.ndarray[Any, Any]:
    draw = np.random.default_rng(5)
    return np.stack([draw.standard_normal((5, 4)) * scale for scale in SCALES], axis=1).astype(np.float32)


def start() -> np.ndarray[Any, Any]:
    return np.random.default_rng(6).standard_normal((len(SCALES), 4)).astype(np.float32)


def in_torch(training: Training) -> np.ndarray[Any, Any]:
    from worker.training.backends.torch_support import make_optimizer

    weight = torch.nn.Parameter(torch.from_numpy(start()))
    optimizer = make_optimizer(training, {"w": weight})
    for gradient in gradients():
        weight.grad = torch.from_numpy(gradient)
        if training.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_([weight], training.grad_clip)
        optimizer.step()
    return weight.detach().numpy()


def in_tensorflow(training: Training) -> np.ndarray[Any, Any]:
    from worker.training.backends.tensorflow_support import Optimizer as TensorflowOptimizer
    from worker.training.backends.tensorflow_support import use_threads

    use_threads(THREADS)
    weight = tf.Variable(start())
    optimizer = TensorflowOptimizer(training, {"w": weight})
    step = tf.function(lambda gradient: optimizer.step([gradient], tf.constant(training.learning_rate)))
    for gradient in gradients():
        step(tf.constant(gradient))
    return weight.numpy()


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
@pytest.mark.parametrize("more", [{}, {"weight_decay": 0.1}, {"grad_clip": 0.5}], ids=["plain", "decay", "clip"])
def test_five_steps_end_at_the_same_weights(optimizer: str, more: dict[str, float]) -> None:
    training = Training.model_validate({"optimizer": optimizer, "learning_rate": 0.05, **more})
    wanted, found = in_torch(training), in_tensorflow(training)
    assert np.abs(wanted - start()).max() > 1e-4
    np.testing.assert_allclose(found - start(), wanted - start(), rtol=1e-4, atol=2e-7)


def test_adamw_alone_decays_apart_from_the_gradient() -> None:
    """Where the gradient is nothing, adamw shrinks weights by rate * decay a step; adam divides it away."""
    training = Training.model_validate({"optimizer": "adamw", "learning_rate": 0.05, "weight_decay": 0.1})
    shrunk = in_torch(training)[-1] / start()[-1]
    assert np.all(np.abs(in_torch(training) - in_tensorflow(training)) < 1e-6)
    coupled = in_torch(training.model_copy(update={"optimizer": "adam"}))[-1] / start()[-1]
    assert not np.allclose(shrunk, coupled, atol=1e-2)
