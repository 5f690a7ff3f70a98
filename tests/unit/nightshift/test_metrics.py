"""A metric's name tells its sense, and figures of the last batches are not results of the run."""

from __future__ import annotations

import pytest

from nightshift import metrics
from nightshift.cli.render.output import metric_facts
from nightshift.metrics import (
    HEADLINES,
    OF_STEPS,
    Metric,
    chart_title,
    declare,
    facts,
    headline,
    is_of_steps,
    main_curves,
    result_sense,
    sense,
)
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
        ("test_r2", "max"),
        ("val_mae", "min"),
        ("test_rmse", "min"),
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


# -- metrics of plug-ins ----------------------------------------------------------------------------


@pytest.fixture
def nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_declared", {})


GINI = {"gini": Metric("Gini", "max"), "lag": Metric("lag", curve="training")}


def test_a_model_of_numbers_is_known_by_its_share_of_explained_variance_which_is_no_percentage() -> None:
    assert headline({"test_loss": 12.5, "test_mae": 3.0, "test_r2": 0.4, "val_r2": 0.5}) == "test_r2"
    assert headline({"train_loss": 12.5, "val_loss": 13.0, "val_r2": -0.1}) == "val_r2"
    assert "r2" in facts()["higherIsBetter"]
    assert "r2" not in facts()["fractions"]


@pytest.mark.usefixtures("nothing_declared")
def test_a_declared_metric_is_known_on_each_part_of_the_data() -> None:
    assert (sense("test_gini"), facts()["declared"]) == (None, {})
    declare("program gbm", {"test_gini": GINI["gini"], "lag": GINI["lag"]})
    assert [sense(name) for name in ("gini", "test_gini", "val_gini", "other")] == ["max", "max", "max", None]
    assert chart_title("val_gini") == "Gini"
    assert facts()["declared"] == {"gini": {"label": "Gini", "better": "max"}, "lag": {"label": "lag", "better": None}}
    assert {"gini", "val_gini"} <= set(main_curves())
    assert (is_of_steps("lag"), is_of_steps("gini"), "lag" in facts()["ofSteps"]) == (True, False, True)


@pytest.mark.usefixtures("nothing_declared")
def test_a_plug_in_declares_again_what_it_has_by_now() -> None:
    declare("program gbm", GINI)
    declare("program gbm", GINI)
    declare("family resnet", {"gini": Metric("Gini", "max")})
    declare("program gbm", {"gini": Metric("Gini", "max")})
    assert (sense("gini"), is_of_steps("lag")) == ("max", False)


@pytest.mark.usefixtures("nothing_declared")
@pytest.mark.parametrize(
    ("name", "metric", "message"),
    [
        ("accuracy", Metric("accuracy", "min"), "Nightshift has it as Metric(label='accuracy', better='max'"),
        ("test_accuracy", Metric("hits", "max"), "declares the metric accuracy as Metric(label='hits'"),
        ("f1_weighted", Metric("weighted F1", "min"), "Nightshift has it as Metric(label='F1', better='max'"),
        ("val_gini", Metric("Gini coefficient", "max"), "but program gbm has it as Metric(label='Gini'"),
        ("a b", Metric("a b"), "not 'a b'"),
        ("x" * 65, Metric("x"), "at most 63"),
    ],
)
def test_a_declaration_that_contradicts_another_names_both(name: str, metric: Metric, message: str) -> None:
    declare("program gbm", GINI)
    with pytest.raises(ValueError, match="program walk") as raised:
        declare("program walk", {"fine": Metric("fine", "max"), name: metric})
    assert message in str(raised.value)
    assert sense("fine") is None


@pytest.mark.usefixtures("nothing_declared")
def test_one_declaration_does_not_contradict_itself() -> None:
    with pytest.raises(ValueError, match="but program walk has it"):
        declare("program walk", {"val_gini": Metric("Gini", "max"), "gini": Metric("Gini", "min")})


@pytest.mark.usefixtures("nothing_declared")
def test_what_is_built_in_may_be_declared_as_it_is() -> None:
    declare("program walk", {"test_accuracy": Metric("accuracy", "max"), "f1_weighted": Metric("weighted F1", "max")})
    assert facts()["declared"] == {"f1_weighted": {"label": "weighted F1", "better": "max"}}
    assert is_of_steps("accuracy")


@pytest.mark.usefixtures("nothing_declared")
def test_a_job_is_known_by_a_declared_metric_if_it_has_no_usual_one() -> None:
    declare("program walk", {"gini": Metric("Gini", "max")})
    measured = {"rows": 3, "gini": 0.1, "val_gini": 0.2, "test_gini": 0.3, "test_other": 0.5}
    assert headline(measured) == "test_gini"
    assert headline({**measured, "test_loss": 0.2}) == "test_loss"
    assert headline({"rows": 3, "test_other": 0.5}) == "test_other"
    assert headline({"rows": 3, "test_other": "high"}) is None
