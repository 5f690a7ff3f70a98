"""An optimizer's name means one update rule: five steps on the same gradients end at the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest

from nightshift.families.optimizers import KERAS_ADAM
from nightshift.families.training import Optimizer, Training
from tests.support.frameworks import THREADS

torch = pytest.importorskip("torch")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

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


#: Settings that change an optimizer's rule.
CHANGED: list[dict[str, Any]] = [
    {"optimizer": "sgd", "momentum": 0.0},
    {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.1},
    {"optimizer": "sgd", "momentum": 0.7},
    {"optimizer": "sgd", "nesterov": False},
    {"optimizer": "adam", "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-4},
    {"optimizer": "adamw", "beta1": 0.0, "beta2": 0.5, "epsilon": 1e-2, "weight_decay": 0.1},
    {"optimizer": "rmsprop", "rho": 0.5, "epsilon": 1e-3},
    {"optimizer": "adadelta", "rho": 0.5, "epsilon": 1e-3},
]


def name_of(settings: dict[str, Any]) -> str:
    return "-".join(str(value) if name == "optimizer" else f"{name}={value}" for name, value in settings.items())


@pytest.mark.parametrize("settings", CHANGED, ids=name_of)
def test_constants_mean_the_same_and_do_something(settings: dict[str, Any]) -> None:
    training = Training.model_validate({"learning_rate": 0.05, **settings})
    wanted, found = in_torch(training), in_tensorflow(training)
    np.testing.assert_allclose(found - start(), wanted - start(), rtol=1e-4, atol=2e-7)
    own = Training(optimizer=training.optimizer, learning_rate=0.05, weight_decay=training.weight_decay)
    assert np.abs(in_torch(own) - wanted).max() > 1e-4


def test_without_momentum_it_is_plain_gradient_descent() -> None:
    training = Training(optimizer="sgd", momentum=0.0, learning_rate=0.05)
    np.testing.assert_allclose(in_torch(training), start() - 0.05 * gradients().sum(0), atol=1e-6)


def torch_alone(make: Callable[[list[Any]], Any]) -> np.ndarray[Any, Any]:
    """The weights after the steps of an optimizer of torch as its documentation says it is used."""
    weight = torch.nn.Parameter(torch.from_numpy(start()))
    optimizer = make([weight])
    for gradient in gradients():
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
    return weight.detach().numpy()


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({"optimizer": "sgd", "momentum": 0.0}, lambda weights: torch.optim.SGD(weights, lr=0.05)),
        (
            {"optimizer": "sgd", "momentum": 0.9, "nesterov": False},
            lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9),
        ),
        ({"optimizer": "sgd"}, lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9, nesterov=True)),
        (
            {"optimizer": "adam", "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-4},
            lambda weights: torch.optim.Adam(weights, lr=0.05, betas=(0.5, 0.9), eps=1e-4),
        ),
        ({"optimizer": "adam"}, lambda weights: torch.optim.Adam(weights, lr=0.05)),
        (
            {"optimizer": "adamw", "weight_decay": 0.1},
            lambda weights: torch.optim.AdamW(weights, lr=0.05, weight_decay=0.1),
        ),
        (
            {"optimizer": "rmsprop", "rho": 0.5, "epsilon": 1e-3},
            lambda weights: torch.optim.RMSprop(weights, lr=0.05, alpha=0.5, eps=1e-3),
        ),
        (
            {"optimizer": "adadelta", "rho": 0.5, "epsilon": 1e-3},
            lambda weights: torch.optim.Adadelta(weights, lr=0.05, rho=0.5, eps=1e-3),
        ),
    ],
    ids=lambda value: name_of(value) if isinstance(value, dict) else "",
)
def test_it_is_the_optimizer_of_torch(settings: dict[str, Any], make: Callable[[list[Any]], Any]) -> None:
    training = Training.model_validate({"learning_rate": 0.05, **settings})
    np.testing.assert_allclose(in_tensorflow(training), torch_alone(make), rtol=1e-5, atol=2e-7)


def keras_alone(optimizer: Any) -> np.ndarray[Any, Any]:
    """The weights after the steps of an optimizer of Keras."""
    weight = keras.Variable(start())
    optimizer.build([weight])
    for gradient in gradients():
        optimizer.apply([tf.constant(gradient)])
    return np.asarray(weight)


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({"optimizer": "sgd", "momentum": 0.0}, lambda: keras.optimizers.SGD(0.05)),
        ({"optimizer": "sgd", "momentum": 0.9, "nesterov": False}, lambda: keras.optimizers.SGD(0.05, momentum=0.9)),
        ({"optimizer": "sgd"}, lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)),
        ({"optimizer": "adadelta"}, lambda: keras.optimizers.Adadelta(0.05)),
        ({"optimizer": "adadelta", "rho": 0.5}, lambda: keras.optimizers.Adadelta(0.05, rho=0.5)),
    ],
    ids=lambda value: name_of(value) if isinstance(value, dict) else "",
)
def test_it_is_the_optimizer_of_keras(settings: dict[str, Any], make: Callable[[], Any]) -> None:
    training = Training.model_validate({"learning_rate": 0.05, **settings})
    np.testing.assert_allclose(in_torch(training), keras_alone(make()), rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        (KERAS_ADAM, lambda: keras.optimizers.Adam(0.05)),
        (
            {"optimizer": "adam", "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-7},
            lambda: keras.optimizers.Adam(0.05, beta_1=0.5, beta_2=0.9),
        ),
        ({"optimizer": "rmsprop"}, lambda: keras.optimizers.RMSprop(0.05)),
    ],
    ids=["adam", "adam-betas", "rmsprop"],
)
def test_it_is_that_of_keras_where_gradients_are_larger_than_epsilon(
    settings: dict[str, Any], make: Callable[[], Any]
) -> None:
    """Keras adds adam's epsilon before the bias correction, and rmsprop's under the root."""
    training = Training.model_validate({"learning_rate": 0.05, **settings})
    ours, theirs = in_torch(training), keras_alone(make())
    np.testing.assert_allclose(ours[0], theirs[0], atol=0.05 * 1e-4)
    assert np.abs(ours[3] - theirs[3]).max() > 0.05 * 0.1, "the definitions became one"


def test_adamw_alone_decays_apart_from_the_gradient() -> None:
    """Where the gradient is nothing, adamw shrinks weights by rate * decay a step; adam divides it away."""
    training = Training.model_validate({"optimizer": "adamw", "learning_rate": 0.05, "weight_decay": 0.1})
    shrunk = in_torch(training)[-1] / start()[-1]
    assert np.all(np.abs(in_torch(training) - in_tensorflow(training)) < 1e-6)
    coupled = in_torch(training.model_copy(update={"optimizer": "adam"}))[-1] / start()[-1]
    assert not np.allclose(shrunk, coupled, atol=1e-2)
