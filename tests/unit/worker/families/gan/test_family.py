"""GAN specs: presets with good training settings, models that cannot be built are refused, early stopping by
distance."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from shared.specs.jobs import TrainJob, job_spec_adapter
from worker.families.gan.family import GanModel
from worker.families.gan.weights import shapes


def train(model: dict[str, Any], **training: Any) -> TrainJob:
    body = {"kind": "train", "model": {"family": "gan", **model}, "dataset": "mnist", "training": training}
    job = job_spec_adapter.validate_python(body)
    assert isinstance(job, TrainJob)
    return job


@pytest.mark.parametrize("preset", ["dense", "dense-tuned"])
def test_the_dense_presets_are_the_published_pair(preset: str) -> None:
    model = train({"preset": preset}).model
    assert isinstance(model, GanModel)
    assert {name: shape for name, shape in shapes(model).items() if name.endswith("weight")} == {
        "generator.dense0.weight": (128, 100),
        "generator.output.weight": (784, 128),
        "discriminator.dense0.weight": (128, 784),
        "discriminator.output.weight": (1, 128),
    }
    assert (model.leak, model.output) == (0.0, "sigmoid")


def test_dense_trains_as_the_listing_says_and_dense_tuned_better() -> None:
    listing, tuned = train({"preset": "dense"}).training, train({"preset": "dense-tuned"}).training
    assert (listing.optimizer, listing.learning_rate, listing.lr_schedule) == ("adam", 0.0001, "constant")
    assert (listing.beta1, listing.beta2, listing.epsilon) == (0.9, 0.999, 1e-7)
    assert (tuned.learning_rate, tuned.lr_schedule, tuned.beta1, tuned.epsilon) == (0.0002, "cosine", 0.5, None)
    assert (listing.batch_size, listing.epochs) == (tuned.batch_size, tuned.epochs) == (64, 20)


def test_gans_come_with_a_slower_rate_and_a_shorter_memory() -> None:
    training = train({}).training
    assert (training.optimizer, training.learning_rate, training.beta1) == ("adam", 0.0005, 0.5)
    assert train({}, beta1=0.9, learning_rate=0.001).training.beta1 == 0.9


def test_early_stopping_watches_the_distance_where_nothing_is_said() -> None:
    early = train({}, early_stopping={"patience": 2}).training.early_stopping
    assert early is not None
    assert (early.metric, early.patience) == ("val_frechet_distance", 2)
    with pytest.raises(ValidationError, match="has no such metric"):
        train({}, early_stopping={"metric": "val_loss"})
    with pytest.raises(ValidationError, match="no such augmentation"):
        train({}, augment=["flip"])


@pytest.mark.parametrize(
    "model",
    [
        {"image_size": (7, 28), "generator_filters": [8, 8, 8]},
        {"image_size": (28, 7), "discriminator_filters": [8, 8, 8]},
        {"latent": 60_000, "generator_dense": [60_000]},
        {"kernel_size": 3},
        {"image_channels": 2},
        {"latent": 0},
        {"leak": 1.0},
        {"dense": [8]},
    ],
)
def test_models_that_cannot_be_built_are_refused(model: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        train(model)


def test_the_weight_count_is_that_of_the_weights() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"generator_filters": []}, {"discriminator_filters": []}, {"generator_dense": [5], "image_channels": 3}
    ]  # fmt: skip
    for change in changes:
        model = train({"image_size": (13, 18), **change}).model
        assert isinstance(model, GanModel)
        found = sum(math.prod(shape) for name, shape in shapes(model).items() if ".running_" not in name)
        assert model.weight_count() == found
