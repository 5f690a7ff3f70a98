"""The copied part of a spec, and what changes of it replace."""

from __future__ import annotations

from typing import Any

from api.services.reruns import changed, copy_of

ADAM = {"optimizer": "adam", "learning_rate": 0.0005, "beta1": 0.5, "epochs": 3}


def job(**training: Any) -> dict[str, Any]:
    return {"kind": "train", "training": training}


def test_another_optimizer_brings_its_own_rate_and_constants() -> None:
    assert changed(job(**ADAM), {"training.optimizer": "sgd"})["training"] == {"optimizer": "sgd", "epochs": 3}
    both = {"training.optimizer": "sgd", "training.learning_rate": 0.2}
    assert changed(job(**ADAM), both)["training"] == {"optimizer": "sgd", "learning_rate": 0.2, "epochs": 3}


def test_the_same_optimizer_keeps_them() -> None:
    assert changed(job(**ADAM), {"training.epochs": 4})["training"] == {**ADAM, "epochs": 4}
    assert changed(job(**ADAM), {"training.optimizer": "adam"})["training"] == ADAM
    assert changed({"kind": "train"}, {"training.optimizer": "sgd"})["training"] == {"optimizer": "sgd"}


def test_a_constant_that_an_older_job_ignored_is_not_copied() -> None:
    assert copy_of(job(optimizer="sgd", beta1=0.5, learning_rate=0.1))["training"] == {
        "optimizer": "sgd", "learning_rate": 0.1,
    }  # fmt: skip
    assert copy_of(job(**ADAM))["training"] == ADAM
