"""Specs of language models: the preset trains as the listing that it is named after."""

from __future__ import annotations

from shared.specs.jobs import TrainJob, job_spec_adapter
from worker.families.gru_lm.family import GruLmModel


def test_the_preset_is_the_published_listing() -> None:
    body = {"kind": "train", "model": {"family": "gru_lm"}, "dataset": "tale"}
    job = job_spec_adapter.validate_python(body)
    assert isinstance(job, TrainJob)
    assert isinstance(job.model, GruLmModel)
    assert (job.model.preset, job.model.units, job.model.dropout) == ("gru-2x512", [512, 512], 0.1)
    training = job.training
    assert (training.batch_size, training.epochs, training.validation_split) == (64, 10, 0.2)
    assert (training.optimizer, training.learning_rate, training.lr_schedule) == ("adam", 0.001, "constant")
    assert (training.beta1, training.beta2, training.epsilon) == (0.9, 0.999, 1e-7)
    assert (training.weight_decay, training.grad_clip, training.augment) == (0.0, None, [])
