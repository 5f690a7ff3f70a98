"""What a perceptron's evaluation, figures, promotions and predictions say, from a model that is a function."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from nightshift.families.learner import Array, Learner, Splits
from nightshift.families.training import Training
from nightshift.testing.datasets import store_given
from shared.errors import BadData
from shared.specs.jobs import Inference
from worker.families.mlp import batch_inference, data, evaluation, per_example, plots
from worker.families.mlp.family import JUDGED_BY, MlpModel
from worker.families.mlp.per_example import ClassScores, NumberScores
from worker.training.numerics.bootstrap import lower_bound

ROWS = 60


class Stub:
    """Predicts from the first input, wrong in a known way."""

    def __init__(self, classes: int = 0) -> None:
        self.classes = classes

    def predict(self, inputs: Array, batch_size: int) -> Array:
        first = inputs[:, 0]
        if not self.classes:
            return (10 * first + 3).astype(np.float32)
        sure = 1 / (1 + np.exp(-3 * first))
        rest = np.tile((1 - sure)[:, None] / (self.classes - 1), self.classes - 1)
        return np.column_stack([sure, rest]).astype(np.float32)


def stub(classes: int = 0) -> Learner:
    return cast("Learner", Stub(classes))


def splits(folder: Path, model: MlpModel) -> Splits:
    rows = [f"{n},{'uv'[n % 2]},{n * 1.5},{('low', 'high')[n > 40]}" for n in range(ROWS)]
    stored = store_given(folder, {"t.csv": "a,b,amount,level\n" + "\n".join(rows) + "\n"}, "table")
    return data.load_splits(stored, model, Training(validation_split=0))


AMOUNT, LEVEL = MlpModel(target="amount", features=["a"]), MlpModel(target="level", features=["a"])


def test_numbers_are_judged_as_scikit_learn_judges_them(tmp_path: Path) -> None:
    found = splits(tmp_path, AMOUNT)
    assert found.test is not None
    report = evaluation.report(stub(), found, AMOUNT, Training())
    predicted, wanted = stub().predict(found.test["x"], 5).astype(float), found.test["y"]
    assert report.metrics == {
        "test_loss": pytest.approx(np.square(predicted - wanted).mean()),
        "test_r2": pytest.approx(r2_score(wanted, predicted)),
        "test_mae": pytest.approx(mean_absolute_error(wanted, predicted)),
        "test_rmse": pytest.approx(root_mean_squared_error(wanted, predicted)),
    }
    worst = report.document["worst"]
    assert len(worst) == 10
    assert [abs(one["error"]) for one in worst] == sorted((abs(one["error"]) for one in worst), reverse=True)
    assert all(one["true"] == 1.5 * (one["row"] - 1) for one in worst)
    absolute = MlpModel(target="amount", features=["a"], loss="mean_absolute_error")
    other = evaluation.report(stub(), found, absolute, Training())
    assert other.metrics["test_loss"] == other.metrics["test_mae"] == report.metrics["test_mae"]


def test_classes_have_the_figures_of_any_classifier_and_their_surest_mistakes(tmp_path: Path) -> None:
    found = splits(tmp_path, LEVEL)
    report = evaluation.report(stub(2), found, LEVEL, Training())
    assert {"test_accuracy", "auc_macro_ovr", "f1_macro"} <= report.metrics.keys()
    for mistake in report.document["worst"]:
        assert mistake["true"] == ("high" if mistake["row"] - 1 > 40 else "low") != mistake["predicted"]
        assert mistake["probability"] > 0.5
    assert report.document["worst"] or report.metrics["test_accuracy"] == 1


@pytest.mark.parametrize("model", [AMOUNT, LEVEL], ids=["numbers", "classes"])
def test_figures_are_drawn(tmp_path: Path, model: MlpModel) -> None:
    report = evaluation.report(stub(0 if model is AMOUNT else 2), splits(tmp_path, model), model, Training())
    history = {"loss": [[1, 2.0], [2, 1.0]], "val_r2": [[2, 0.5]]}
    names = {path.name for path in plots.draw(report, history, tmp_path / "figures", 2)}
    assert names == {"curves.png", *(["residuals.png"] if model is AMOUNT else ["confusion_matrix.png", "roc.png"])}
    assert all((tmp_path / "figures" / name).stat().st_size > 5_000 for name in names)


def scores(seed: int, noise: float) -> NumberScores:
    draw = np.random.default_rng(seed)
    wanted = 1e6 + np.random.default_rng(0).normal(size=400)
    return NumberScores(wanted + noise * draw.normal(size=400), wanted, "y")


@pytest.mark.parametrize("metric", JUDGED_BY["numbers"])
def test_resampled_scores_are_those_of_the_rows_drawn(metric: str) -> None:
    one = scores(1, 0.5)
    draw = np.random.default_rng(2)
    rows = draw.integers(0, 400, (3, 400))
    counts = np.stack([np.bincount(some, minlength=400) for some in rows]).astype(float)
    judge: Any = {"test_r2": r2_score, "test_mae": mean_absolute_error, "test_rmse": root_mean_squared_error}[metric]
    expected = [judge(one.wanted[some], one.predicted[some]) for some in rows]
    np.testing.assert_allclose(one.resampled(metric, counts), expected, rtol=1e-6)
    assert one.score(metric) == pytest.approx(judge(one.wanted, one.predicted), rel=1e-6)


def test_a_better_model_of_numbers_is_better_in_resamples() -> None:
    good, bad = scores(1, 0.3), scores(2, 0.9)
    assert lower_bound(good, bad, "test_r2", 1, 0.95) > 0
    assert lower_bound(good, bad, "test_mae", -1, 0.95) > 0
    assert lower_bound(bad, good, "test_rmse", -1, 0.95) < 0


def test_models_of_other_targets_or_tasks_are_not_compared(tmp_path: Path) -> None:
    numbers = per_example.examples(stub(), splits(tmp_path / "a", AMOUNT), AMOUNT)
    classes = per_example.examples(stub(2), splits(tmp_path / "b", LEVEL), LEVEL)
    assert isinstance(numbers, NumberScores)
    assert isinstance(classes, ClassScores)
    assert (
        numbers.incomparable(classes) == classes.incomparable(numbers) == "one predicts classes and the other numbers"
    )
    other = NumberScores(numbers.predicted, numbers.wanted, "price")
    assert numbers.incomparable(other) == "one predicts 'amount' and the other 'price'"
    assert numbers.incomparable(numbers) is classes.incomparable(classes) is None
    assert 0 <= classes.score("test_accuracy") <= 1
    with pytest.raises(BadData, match="a model of numbers has no test_accuracy; it is judged by test_r2"):
        numbers.score("test_accuracy")
    with pytest.raises(BadData, match="a model of classes has no test_mae"):
        classes.score("test_mae")


# -- batch inference --------------------------------------------------------------------------------


class Parent:
    def __init__(self, found: Splits) -> None:
        self.facts = found.facts


def source(folder: Path, model: MlpModel, text: str, classes: int = 0) -> batch_inference.Predictions:
    parent = Parent(splits(folder / "trained", model))
    return batch_inference.open_source(
        stub(classes), parent, Inference(batch_size=4), store_given(folder / "new", {"n.csv": text}, "table")
    )


NEW = "a,more\n" + "".join(f"{'' if n == 3 else n},x\n" for n in range(30))


def test_every_row_of_a_table_without_target_gets_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.datasets.ingest.build_table._GROUP_VALUES", 14)  # seven rows of a row group
    found = source(tmp_path, AMOUNT, NEW)
    assert found.total == 30
    whole, bad = found.rows(0, 30)
    assert bad == []
    assert whole["id"].to_pylist() == [f"rows/{n}" for n in range(30)]
    assert whole["row"].to_pylist() == list(range(30))
    pieces = [found.rows(start, min(start + 4, 30))[0] for start in range(0, 30, 4)]
    assert [row for piece in pieces for row in piece.to_pylist()] == whole.to_pylist()
    predictions = whole["prediction"].to_numpy()
    assert np.isfinite(predictions).all()
    assert predictions[10] > predictions[5]
    column = found.encoding.columns[0]
    assert predictions[3] == pytest.approx(10 * (column.median - column.mean) / column.std + 3, rel=1e-5)  # type: ignore[union-attr]


def test_classes_come_with_their_probabilities(tmp_path: Path) -> None:
    table, _ = source(tmp_path, LEVEL, NEW, classes=2).rows(0, 30)
    assert table.column_names == ["id", "row", "prediction", "probability", "probabilities"]
    for row in table.to_pylist():
        best = int(np.argmax(row["probabilities"]))
        assert row["prediction"] == ["high", "low"][best]
        assert row["probability"] == row["probabilities"][best] == max(row["probabilities"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c,d\n1,2\n", "the table has no column 'a', which the model needs"),
        ("a\n" + "1\n" * 20 + "abc\n", "column 'a' is text: row 21 has 'abc', and the model needs numbers there"),
    ],
)
def test_a_table_that_lacks_a_column_or_has_text_for_numbers_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(BadData, match=message):
        source(tmp_path, AMOUNT, text).rows(0, 1 if text.startswith("c") else 21)


def test_rows_without_a_finite_output_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = source(tmp_path, AMOUNT, NEW)
    monkeypatch.setattr(Stub, "predict", lambda self, x, size: np.where(np.arange(len(x)) == 2, np.nan, 1.0))
    table, bad = found.rows(5, 10)
    assert table["row"].to_pylist() == [5, 6, 8, 9]
    assert [(one.id, one.row, one.reason) for one in bad] == [("rows/7", 7, "the model's output is not a number")]
