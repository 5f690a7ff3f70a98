"""Specs of the families: presets fill in, overrides win, errors name the field at its own place."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.specs.families import FAMILIES
from shared.specs.jobs import TrainJob, job_spec_adapter
from worker.families.gru_lm.family import GruLmModel


def train(model: dict[str, Any], **training: Any) -> TrainJob:
    job = job_spec_adapter.validate_python(
        {"kind": "train", "model": model, "dataset": "shakespeare", "training": training}
    )
    assert isinstance(job, TrainJob)
    return job


def refusals(model: dict[str, Any], **training: Any) -> list[tuple[Any, ...]]:
    with pytest.raises(ValidationError) as caught:
        train(model, **training)
    return [error["loc"] for error in caught.value.errors()]


def test_a_language_model_comes_with_the_published_settings() -> None:
    job = train({"family": "gru_lm"})
    assert isinstance(job.model, GruLmModel)
    assert (job.model.embedding, job.model.units, job.model.dropout) == (256, [512, 512], 0.1)
    assert (job.model.vocabulary_size, job.model.window, job.model.framework) == (10_000, 100, "torch")
    assert (job.training.validation_split, job.training.batch_size) == (0.2, 64)


def test_a_rate_that_follows_a_metric_needs_the_metric() -> None:
    lm = {"family": "gru_lm"}
    assert refusals(lm, lr_schedule="plateau", validation_split=0.0) == [("training", "lr_schedule")]
    watched = {"metric": "loss", "patience": 5}
    training = train(lm, lr_schedule="plateau", validation_split=0.0, early_stopping=watched).training
    assert (training.lr_factor, training.lr_patience, training.lr_min) == (0.1, 2, 0.0)
    assert train(lm, lr_schedule="cosine", validation_split=0.0).training.lr_schedule == "cosine"


def test_a_rate_that_would_fall_after_the_end_is_refused() -> None:
    for patience, lr_patience, loc in [
        (3, 3, [("training", "lr_patience")]),
        (3, 2, []),
        (1, 1, [("training", "lr_patience")]),
    ]:
        given = {"early_stopping": {"patience": patience}, "lr_patience": lr_patience}
        found = refusals({}, lr_schedule="plateau", **given) if loc else []
        assert found == loc
        train({}, lr_schedule="constant", **given)
    train({}, lr_schedule="plateau", early_stopping={})


@pytest.mark.parametrize("given", [{"lr_factor": 0.0}, {"lr_factor": 1.0}, {"lr_patience": 0}, {"lr_min": -1.0}])
def test_settings_of_the_schedule_have_limits(given: dict[str, Any]) -> None:
    assert refusals({}, **given) == [("training", next(iter(given)))]


def test_what_the_user_says_wins_over_the_preset() -> None:
    job = train({"family": "gru_lm", "units": [8], "tokenizer": "char"}, validation_split=0.1)
    assert isinstance(job.model, GruLmModel)
    assert (job.model.units, job.model.tokenizer) == ([8], "char")
    assert job.training.validation_split == 0.1


def test_a_model_without_a_family_is_a_cnn() -> None:
    assert train({"preset": "mnist-1conv-linear"}).training.batch_size == 128


#: The listings: batch size, epochs and the share held out; all with Keras' adam at a constant rate.
LISTINGS = {
    "mnist-3conv": (32, 5, 0.0),
    "mnist-2conv": (64, 5, 0.0),
    "mnist-1conv": (32, 5, 0.0),
    "mnist-1conv-linear": (128, 10, 0.0),
    "cats-vs-dogs": (32, 10, 0.2),
}


@pytest.mark.parametrize("preset", LISTINGS)
def test_a_listing_trains_as_printed(preset: str) -> None:
    job = train({"preset": preset})
    how = job.training
    assert (how.batch_size, how.epochs, how.validation_split) == LISTINGS[preset]
    assert (how.optimizer, how.learning_rate, how.lr_schedule) == ("adam", 0.001, "constant")
    assert (how.beta1, how.beta2, how.epsilon) == (0.9, 0.999, 1e-7)
    assert job.model.model_dump()["initialization"] == "glorot"


def test_a_model_without_a_preset_is_the_tuned_one() -> None:
    how = train({}).training
    assert (how.batch_size, how.epochs, how.validation_split, how.lr_schedule) == (64, 5, 0.1, "cosine")


def test_early_stopping_on_a_listing_holds_rows_out() -> None:
    model = {"preset": "mnist-3conv"}
    assert train(model, early_stopping={}).training.validation_split == 0.1
    assert train(model, early_stopping={"metric": "val_accuracy"}).training.validation_split == 0.1
    assert train(model, early_stopping={"metric": "loss"}).training.validation_split == 0
    assert train({"preset": "cats-vs-dogs"}, early_stopping={}).training.validation_split == 0.2
    assert refusals(model, early_stopping={}, validation_split=0.0) == [("training",)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_preset_parses_and_survives_its_own_json(family: str) -> None:
    for preset in FAMILIES[family].presets:
        job = train({"family": family, "preset": preset})
        again = job_spec_adapter.validate_json(job.model_dump_json())
        assert again == job
        assert job_spec_adapter.validate_python(job.model_dump(mode="json")) == job


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ({"family": "gru_lm", "units": []}, ("model", "units")),
        ({"family": "gru_lm", "units": [0]}, ("model", "units", 0)),
        ({"family": "gru_lm", "dropout": 1.0}, ("model", "dropout")),
        ({"family": "gru_lm", "filters": [8]}, ("model", "filters")),
        ({"family": "gru_lm", "window": "100"}, ("model", "window")),
        ({"family": "gru_lm", "preset": "mnist-3conv"}, ("model", "preset")),
        ({"family": "gru_lm", "units": [65_536] * 16}, ("model",)),
        ({"family": "vae"}, ("model", "family")),
        ({"family": 3}, ("model", "family")),
        ({"family": "cnn", "units": [8]}, ("model", "units")),
        ({"kernel_size": 0}, ("model", "kernel_size")),
        ({"activation": "gelu"}, ("model", "activation")),
        ({"padding": "full"}, ("model", "padding")),
        ({"pooling": "sum"}, ("model", "pooling")),
        ({"convolution": "grouped"}, ("model", "convolution")),
        ({"loss": "hinge"}, ("model", "loss")),
        ({"initialization": "zeros"}, ("model", "initialization")),
        ({"l1": -0.1}, ("model", "l1")),
        ({"l2": "0.1"}, ("model", "l2")),
    ],
)
def test_errors_lie_at_the_field(model: dict[str, Any], place: tuple[Any, ...]) -> None:
    assert refusals(model) == [place]


def test_augmentations_and_watched_metrics_belong_to_the_family() -> None:
    assert refusals({"family": "gru_lm"}, augment=["word_dropout", "flip"]) == [("training", "augment", 1)]
    assert refusals({"family": "cnn"}, augment=["word_dropout"]) == [("training", "augment", 0)]
    place = ("training", "early_stopping", "metric")
    assert refusals({"family": "cnn"}, early_stopping={"metric": "val_perplexity"}) == [place]
    assert train({"family": "gru_lm"}, early_stopping={"metric": "val_perplexity"}).training.early_stopping


def test_the_weight_count_is_the_published_one() -> None:
    job = train({"family": "gru_lm"})
    assert isinstance(job.model, GruLmModel)
    assert job.model.weight_count(10_000) == 10_000 * 256 + 1_182_720 + 1_575_936 + 10_000 * 512 + 10_000
