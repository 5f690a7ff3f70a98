"""A metric's name tells its sense, and figures of the last batches are not results of the run."""

from __future__ import annotations

import pytest

from nightshift.cli.render.output import metric_facts
from nightshift.metrics import HEADLINES, OF_STEPS, result_sense, sense
from shared.models import overview, registry
from shared.specs.families import FAMILIES
from shared.webhooks import payload

#: A result as it was written before there were `train_` figures.
OLD = {"loss": 0.01, "accuracy": 0.9286, "samples_per_second": 900.0, "val_accuracy": 0.77, "val_loss": 0.6}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_promotions_go_by_has_a_better_side(family: str) -> None:
    assert all(sense(name) for name in FAMILIES[family].judged_by)


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("train_accuracy", "max"),
        ("train_loss", "min"),
        ("train_g_loss", None),
        ("val_d_loss", None),
        ("rows", None),
        ("f1_macro", "max"),
        ("auc_macro_ovr", "max"),
        ("val_frechet_distance", "min"),
        ("test_perplexity", "min"),
    ],
)
def test_which_is_better(name: str, better: str | None) -> None:
    assert (sense(name), result_sense(name)) == (better, better)


def test_what_is_watched_and_what_jobs_are_known_by_has_a_better_side() -> None:
    watched = {name for family in FAMILIES.values() for name in (*family.watchable, family.watched)}
    assert all(sense(name) for name in (*watched, *HEADLINES))
    assert not any(result_sense(name) for name in OF_STEPS)


def test_versions_are_known_by_what_was_measured_on_data_they_have_not_seen() -> None:
    names = ["train_accuracy", "accuracy", "val_accuracy", "loss"]
    assert overview.headline("cnn", names) == "val_accuracy"
    assert overview.senses("cnn", names) == {
        "val_accuracy": "max",
        "train_accuracy": "max",
        "accuracy": None,
        "loss": None,
    }
    assert overview.headline("cnn", ["loss", "accuracy"]) is None


def test_a_command_says_what_the_last_batches_are() -> None:
    assert metric_facts(OLD)[:2] == ["loss (last batches) 0.0100", "accuracy (last batches) 0.9286"]


def test_a_webhooks_line_says_nothing_of_them() -> None:
    job = {"id": "0" * 16, "name": "one", "kind": "train"}
    assert payload.line("job.succeeded", {"job": job, "result": {"metrics": OLD}}).endswith(
        "succeeded: val_accuracy 0.77, val_loss 0.6"
    )


def test_no_difference_to_them_is_told() -> None:
    assert registry._side_by_side("loss", 0.25, 0.5) == {"a": 0.25, "b": 0.5, "difference": None}
    assert registry._side_by_side("train_loss", 0.25, 0.5)["difference"] == 0.25
