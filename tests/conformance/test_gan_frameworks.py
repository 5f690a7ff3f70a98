"""The GAN in torch and in TensorFlow is one model, noise and dropout included: each framework is the other's oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.support.frameworks import FRAMEWORKS, close, gradients, learner
from worker.families.gan.family import PRESETS

pytest.importorskip("torch")
pytest.importorskip("tensorflow")

ROWS = 12
CONVOLUTIONS: dict[str, Any] = {
    "preset": "dcgan", "image_size": (13, 18), "image_channels": 3, "latent": 6,
    "generator_dense": [], "generator_filters": [7, 5], "discriminator_filters": [4, 6], "discriminator_dense": [],
}  # fmt: skip
#: Both presets as they are, then every layer, norm and switch in small, on pictures of odd sizes.
MODELS: dict[str, dict[str, Any]] = {
    **{name: {"preset": name} for name in PRESETS},
    "odd sizes": CONVOLUTIONS,
    "layer norm": {**CONVOLUTIONS, "generator_normalization": "layer", "discriminator_normalization": "layer"},
    "dropout": {**CONVOLUTIONS, "generator_dropout": 0.3, "discriminator_dropout": 0.4, "output": "sigmoid"},
    "joint": {**CONVOLUTIONS, "updates": "joint", "generator_dropout": 0.2, "discriminator_dropout": 0.3},
    "dense layers": {**CONVOLUTIONS, "generator_dense": [9], "discriminator_dense": [8, 5], "kernel_size": 6},
    "dense batch norm": {
        "preset": "dense", "image_size": (5, 4), "image_channels": 3, "generator_dense": [9, 7],
        "generator_normalization": "batch", "discriminator_normalization": "batch", "discriminator_dense": [8, 6],
        "generator_dropout": 0.2, "discriminator_dropout": 0.2, "leak": 0.1,
    },
}  # fmt: skip


def pair(model: Mapping[str, Any], **training: Any) -> tuple[Any, Any]:
    return tuple(learner("gan", framework, {}, model, **training) for framework in FRAMEWORKS)


def pictures(learner: Any) -> Any:
    """Not noise: a bright spot on a dark ground, at a random place."""
    draw = np.random.default_rng(7)
    height, width = learner.model.image_size
    y, x = np.mgrid[:height, :width]
    centres = draw.random((ROWS, 2, 1, 1)) * [[[height]], [[width]]]
    far = (y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2
    grey = 250 * np.exp(-far / 8) + draw.random((ROWS, height, width)) * 5
    return np.repeat(grey[..., None], learner.model.image_channels, 3).astype(np.uint8)


@pytest.mark.parametrize("name", MODELS)
def test_same_weights_and_batch_give_the_same_outputs_losses_and_gradients(name: str) -> None:
    torch, tensorflow = pair(MODELS[name], optimizer="sgd")
    x = pictures(torch)
    assert torch.weights().keys() == tensorflow.weights().keys()
    theirs = tensorflow.weights()
    for key, array in torch.weights().items():
        np.testing.assert_array_equal(array, theirs[key], err_msg=key)
    np.testing.assert_allclose(torch.predict(x, 5), tensorflow.predict(x, 5), rtol=1e-4)
    assert torch.evaluate({"x": x}, 5) == pytest.approx(tensorflow.evaluate({"x": x}, 12), rel=1e-4)
    for one in (torch, tensorflow):
        one.set_data({"x": x})
    wanted, found = gradients(torch, ROWS), gradients(tensorflow, ROWS)
    assert wanted.keys() == found.keys() == {key for key in torch.weights() if ".running_" not in key}
    assert torch.read_metrics() == pytest.approx(tensorflow.read_metrics(), rel=1e-4)
    for key in wanted:
        assert np.abs(wanted[key]).max() > 0, key
        assert close(found[key], wanted[key]), key
    theirs = tensorflow.weights()
    for key, array in torch.weights().items():
        np.testing.assert_allclose(theirs[key], array, rtol=1e-4, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", ["dense", "dropout"])
def test_a_joint_step_judges_fakes_by_the_discriminator_before_its_step(framework: str, name: str) -> None:
    """The discriminator learns the same; the generator does where the discriminator hardly changes."""

    def step(updates: str, rate: float) -> dict[str, Any]:
        model = {**MODELS[name], "updates": updates, "discriminator_dropout": 0.0}
        one = learner("gan", framework, {}, model, optimizer="sgd", learning_rate=rate)
        one.set_data({"x": pictures(one)})
        return gradients(one, ROWS)

    def apart(part: str, rate: float) -> float:
        """Return how far the gradients of one network are apart, by their length."""
        joint, alternating = (step(updates, rate) for updates in ("joint", "alternating"))
        keys = [key for key in joint if key.startswith(part)]
        squares = [(np.square(joint[key] - alternating[key]).sum(), np.square(joint[key]).sum()) for key in keys]
        return float(np.sqrt(sum(apart for apart, _ in squares) / sum(length for _, length in squares)))

    assert apart("discriminator", 0.5) < 1e-4
    assert apart("generator", 0.5) > 0.1
    assert apart("generator", 1e-6) < 1e-3


@pytest.mark.parametrize("name", ["dense", "odd sizes", "dense batch norm"])
def test_what_one_framework_trained_the_other_makes_pictures_with(name: str) -> None:
    torch, tensorflow = pair(MODELS[name], learning_rate=0.01)
    for trained, other in ((torch, tensorflow), (tensorflow, torch)):  # the second goes on from what the first learned
        trained.set_data({"x": pictures(trained)})
        for step in range(4):
            trained.train_step(np.arange(ROWS), step)
        assert np.abs(trained.predict(pictures(trained), 8) - other.predict(pictures(trained), 8)).max() > 1e-2
        other.load_weights(trained.weights())
        np.testing.assert_allclose(
            other.predict(pictures(trained), 8), trained.predict(pictures(trained), 8), atol=1e-4
        )
        ours, theirs = trained.generate(20, 3, 8), other.generate(20, 3, 20)
        assert ours.dtype == np.uint8
        assert ours.std() > 1  # not one grey
        assert np.abs(ours.astype(int) - theirs).max() <= 1  # rounded to bytes
        assert other.evaluate({"x": pictures(other)}, 5) == pytest.approx(
            trained.evaluate({"x": pictures(other)}, 5), rel=1e-4
        )
        trained.train_step(np.arange(1), 4)  # a last batch of one picture trains too
        assert all(np.isfinite(array).all() for array in trained.weights().values())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_sample_depends_on_seed_and_number_alone(framework: str) -> None:
    one = learner("gan", framework, {}, {"preset": "dense", "image_size": (6, 6), "generator_dense": [16]})
    whole = one.generate(300, 5, 64)
    assert whole.shape == (300, 6, 6, 1)
    np.testing.assert_array_equal(one.generate(70, 5, 64, start=230), whole[230:])
    np.testing.assert_array_equal(one.generate(1, 5, 64, start=299), whole[299:])
    assert one.generate(0, 5, 64).shape == (0, 6, 6, 1)
    assert (one.generate(300, 6, 64) != whole).any()
