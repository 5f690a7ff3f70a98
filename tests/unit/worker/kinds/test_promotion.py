"""Is the new model better: the rule, scores of resampled rows against scikit-learn's, the paired bootstrap."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import f1_score, log_loss, precision_score, recall_score, roc_auc_score

from nightshift.metrics import sense
from shared.models.promotion_gate import NO_CHAMPION, Rule, decide
from shared.specs.families import FAMILIES
from shared.specs.jobs import job_spec_adapter
from worker.families.gru_lm.per_example import WindowScores
from worker.training.classification.evaluation import evaluate
from worker.training.classification.per_example import PredictionScores
from worker.training.numerics.bootstrap import lower_bound

RULE = Rule("test_accuracy", "max", 0.01, None, "digits@1")


@pytest.mark.parametrize(
    ("candidate", "champion", "better", "reason"),
    [
        (0.90, None, True, NO_CHAMPION),
        (0.92, 0.90, True, "better by 0.02"),
        (0.905, 0.90, False, "but min_improvement is 0.01"),
        (0.90, 0.90, False, "not better"),
        (0.30, 0.90, False, "worse by 0.6"),
        (float("nan"), 0.90, False, "is nan"),
        (float("nan"), None, False, "is nan"),
        (0.90, float("nan"), True, "better"),
    ],
)
def test_better_means_by_the_margin(candidate: float, champion: float | None, better: bool, reason: str) -> None:
    verdict = decide(RULE, candidate, champion)
    assert verdict.better is better
    assert reason in verdict.reason


def test_of_a_loss_the_smaller_is_better() -> None:
    rule = replace(RULE, metric="test_loss", sense="min")
    assert decide(rule, 0.1, 0.2).better
    assert not decide(rule, 0.2, 0.1).better
    assert not decide(rule, float("inf"), float("inf")).better


def test_without_a_margin_as_good_is_not_better() -> None:
    rule = replace(RULE, min_improvement=0.0)
    assert not decide(rule, 0.9, 0.9).better
    assert decide(rule, 0.9001, 0.9).better


@pytest.mark.parametrize(("lower", "better"), [(-0.001, False), (0.0, False), (0.005, False), (0.01, True)])
def test_at_a_confidence_the_least_likely_improvement_counts(lower: float, better: bool) -> None:
    verdict = decide(replace(RULE, confidence=0.95), 0.95, 0.90, lower)
    assert verdict.better is better
    assert "95 %" in verdict.reason


# -- scores of resampled rows ---------------------------------------------------------------------


def classified(seed: int = 0, n: int = 60, classes: int = 4, skill: float = 1.0) -> PredictionScores:
    """Probabilities with ties; `skill` pulls them to the labels, which do not depend on it."""
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(99).integers(0, classes, n)
    raw = rng.integers(1, 6, (n, classes)).astype(np.float64)
    raw[np.arange(n), labels] += skill
    return PredictionScores((raw / raw.sum(axis=1, keepdims=True)).astype(np.float32), labels)


METRICS = list(FAMILIES["cnn"].judged_by)


def test_with_each_row_once_they_are_the_reports_numbers() -> None:
    found = classified()
    report = evaluate(found.probabilities, found.labels, list("abcd"))
    assert {name: found.score(name) for name in METRICS} == pytest.approx(
        {name: report.metrics[name] for name in METRICS}
    )


@pytest.mark.parametrize("metric", METRICS)
def test_a_resample_scores_as_if_its_rows_were_written_out(metric: str) -> None:
    found, rng = classified(), np.random.default_rng(5)
    rows = rng.integers(0, found.rows, (3, found.rows))
    counts = np.stack([np.bincount(row, minlength=found.rows) for row in rows])
    sklearn: dict[str, Any] = {
        "test_accuracy": lambda y, p: (p.argmax(1) == y).mean(),
        "test_loss": lambda y, p: log_loss(y, p / p.sum(1, keepdims=True), labels=range(4)),
        "f1_macro": lambda y, p: f1_score(y, p.argmax(1), average="macro"),
        "precision_macro": lambda y, p: precision_score(y, p.argmax(1), average="macro", zero_division=0),
        "recall_macro": lambda y, p: recall_score(y, p.argmax(1), average="macro"),
        "auc_macro_ovr": lambda y, p: np.mean([roc_auc_score(y == k, p[:, k]) for k in range(4)]),
    }
    wanted = [sklearn[metric](found.labels[row], found.probabilities[row].astype(np.float64)) for row in rows]
    assert found.resampled(metric, counts) == pytest.approx(wanted, abs=1e-6)


def test_a_class_without_samples_does_not_change_the_score() -> None:
    found = classified()
    wider = PredictionScores(np.pad(found.probabilities, ((0, 0), (0, 2))), found.labels)
    assert {name: wider.score(name) for name in METRICS} == pytest.approx({name: found.score(name) for name in METRICS})


def test_perplexity_is_of_the_mean_loss() -> None:
    losses = np.array([1.0, 2.0, 6.0])
    found = WindowScores(losses, 5, "a")
    assert found.score("test_perplexity") == pytest.approx(np.exp(3))
    assert found.resampled("test_loss", np.array([[0, 0, 3], [2, 1, 0]])) == pytest.approx([6, 4 / 3])
    assert WindowScores(np.array([1e6]), 5, "a").score("test_perplexity") == float("inf")
    assert found.incomparable(WindowScores(losses, 5, "a")) is None
    assert "tokenizers" in (found.incomparable(WindowScores(losses, 5, "b")) or "")
    assert "windows" in (found.incomparable(WindowScores(losses, 6, "a")) or "")


# -- the bootstrap --------------------------------------------------------------------------------


def test_the_bound_is_below_the_gain_and_says_how_surely() -> None:
    weak, strong = classified(1, 400, skill=0.5), classified(2, 400, skill=3.0)
    gain = strong.score("test_accuracy") - weak.score("test_accuracy")
    bounds = [lower_bound(strong, weak, "test_accuracy", 1, confidence) for confidence in (0.5, 0.9, 0.99)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] == pytest.approx(gain, abs=0.01)
    # Against the normal approximation of the paired difference.
    each = (strong.probabilities.argmax(1) == strong.labels) * 1.0 - (weak.probabilities.argmax(1) == weak.labels)
    assert bounds[1] == pytest.approx(gain - 1.2816 * each.std() / 20, abs=0.006)
    assert lower_bound(weak, strong, "test_accuracy", 1, 0.9) < -gain


def test_the_same_scores_give_the_same_bound_and_a_model_is_no_better_than_itself() -> None:
    a, b = classified(1, 200), classified(2, 200)
    assert lower_bound(a, b, "f1_macro", 1, 0.9) == lower_bound(a, b, "f1_macro", 1, 0.9)
    assert lower_bound(a, a, "test_loss", -1, 0.95) == 0


def test_a_loss_that_falls_is_an_improvement() -> None:
    small, large = WindowScores(np.full(50, 1.0), 5, "a"), WindowScores(np.full(50, 1.5), 5, "a")
    assert lower_bound(small, large, "test_loss", -1, 0.95) == pytest.approx(0.5)


# -- what may be asked for ------------------------------------------------------------------------


def spec(family: str = "cnn", **promote: Any) -> Any:
    asked = {"metric": next(iter(FAMILIES[family].judged_by)), "evaluate_on": "digits@1", **promote}
    body = {"kind": "train", "model": {"family": family}, "dataset": "digits", "register_as": "m", "promote": asked}
    return job_spec_adapter.validate_python(body)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_promoted_by_its_metrics(family: str) -> None:
    for metric in FAMILIES[family].judged_by:
        assert Rule.of(spec(family, metric=metric).promote).sense == sense(metric)


@pytest.mark.parametrize(
    ("family", "promote", "place"),
    [
        ("cnn", {"metric": "test_perplexity"}, ("promote", "metric")),
        ("gru_lm", {"metric": "test_accuracy"}, ("promote", "metric")),
        ("cnn", {"mode": "min"}, ("promote", "mode")),
        ("gan", {"confidence": 0.9}, ("promote", "confidence")),
        ("cnn", {"confidence": 1.0}, ("promote", "confidence")),
        ("cnn", {"min_improvement": -0.1}, ("promote", "min_improvement")),
        ("cnn", {"alias": "3"}, ("promote", "alias")),
        ("cnn", {"evaluate_on": "digits@0"}, ("promote", "evaluate_on")),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_place(
    family: str, promote: dict[str, Any], place: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(family, **promote)
    assert [error["loc"] for error in caught.value.errors()] == [place]


def test_a_promotion_needs_a_name_to_register() -> None:
    asked = {"metric": "test_accuracy", "evaluate_on": "digits@1"}
    for body in (
        {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits", "promote": asked},
        {"kind": "finetune", "model_ref": "m", "dataset": "digits", "promote": asked},
    ):
        with pytest.raises(ValidationError) as caught:
            job_spec_adapter.validate_python(body)
        assert [error["loc"] for error in caught.value.errors()] == [("register_as",)]
