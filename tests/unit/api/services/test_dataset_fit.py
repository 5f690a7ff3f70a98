"""What is refused at submission is what the runner would refuse, and nothing else: both count the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from api.services import dataset_fit
from shared.datasets import registry
from shared.datasets.models import DatasetVersion
from shared.settings import Settings
from shared.specs.jobs import FinetuneJob, TrainJob
from shared.specs.promotion import Promotion
from tests.support.dataset_files import npz
from worker import families

LINES = "the cats saw 2 dogs, and left\n"


class Shelf:
    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.settings, self.folder = engine, Settings(data_dir=folder / "data"), folder

    def text(self, lines: int, text: str = LINES) -> DatasetVersion:
        path = self.folder / "tale.txt"
        path.write_text(text * lines)
        return registry.register(self.engine, self.settings, "tale", path)

    def images(self, rows: int, classes: int = 2) -> DatasetVersion:
        arrays = {"x": np.zeros((rows, 6, 6), np.uint8), "y": np.arange(rows) % classes}
        return registry.register(self.engine, self.settings, "shapes", npz(self.folder / "shapes.npz", **arrays))

    def table(self, text: str) -> DatasetVersion:
        path = self.folder / "people.csv"
        path.write_text(text)
        return registry.register(self.engine, self.settings, "people", path, kind="table")

    def rows_trained_on(self, version: DatasetVersion, spec: TrainJob) -> int:
        """As the runner counts them."""
        load_splits = families.part(spec.model.family, "load_splits")
        folder = registry.dataset_folder(self.settings, version)
        return int(load_splits(folder, spec.model, spec.training).length)


@pytest.fixture
def shelf(sqlite_engine: Engine, tmp_path: Path) -> Shelf:
    return Shelf(sqlite_engine, tmp_path)


def train(family: str, batch_size: int, split: float = 0.1, **model: Any) -> TrainJob:
    training = {"batch_size": batch_size, "validation_split": split}
    body = {"kind": "train", "dataset": "x", "model": {"family": family, **model}, "training": training}
    return TrainJob.model_validate(body)


def objection(version: DatasetVersion, spec: TrainJob) -> Any:
    return dataset_fit.training_objection(spec, spec.model.model_dump(), version)


@pytest.mark.parametrize("family", ["cnn", "gan"])
@pytest.mark.parametrize(("rows", "split"), [(30, 0.1), (31, 0.25), (31, 0.0), (6, 0.9)])
def test_images_are_counted_as_the_runner_counts_them(shelf: Shelf, family: str, rows: int, split: float) -> None:
    version = shelf.images(rows)
    left = shelf.rows_trained_on(version, train(family, 1, split))
    assert objection(version, train(family, left, split)) is None
    refused = objection(version, train(family, left + 1, split))
    assert refused.loc == ("training", "batch_size")
    assert f"at most {left}" in refused.msg


@pytest.mark.parametrize("tokenizer", ["word", "char"])
@pytest.mark.parametrize("split", [0.0, 0.2])
def test_windows_of_a_text_are_counted_as_the_runner_counts_them(shelf: Shelf, tokenizer: str, split: float) -> None:
    version, model = shelf.text(40), {"tokenizer": tokenizer, "window": 5}
    left = shelf.rows_trained_on(version, train("gru_lm", 1, split, **model))
    assert objection(version, train("gru_lm", left, split, **model)) is None
    refused = objection(version, train("gru_lm", left + 1, split, **model))
    assert (refused.loc, f"at most {left}" in refused.msg) == (("training", "batch_size"), True)


def test_an_uncounted_text_is_refused_only_where_no_tokenizer_could_make_it_enough(shelf: Shelf) -> None:
    version, model = shelf.text(4), {"tokenizer": "bpe", "window": 10}
    assert objection(version, train("gru_lm", 4, **model)) is None
    refused = objection(version, train("gru_lm", 64, **model))
    assert (refused.loc, "at most 9" in refused.msg) == (("training", "batch_size"), True)
    long = version.model_copy(
        update={"summary": {**version.summary, "splits": {"train": {"count": 1, "bytes": 10**9}}}}
    )
    assert objection(long, train("gru_lm", 65_536)) is None


def test_a_text_shorter_than_two_windows_is_refused_with_its_tokens(shelf: Shelf) -> None:
    version = shelf.text(10)
    refused = objection(version, train("gru_lm", 1, window=100))
    assert refused.loc == ("model", "window")
    assert f"{version.summary['splits']['train']['words']} training tokens" in refused.msg
    tuned = FinetuneJob.model_validate({"kind": "finetune", "dataset": "tale", "model_ref": "m"})
    model = train("gru_lm", 1).model.model_dump()
    assert dataset_fit.training_objection(tuned, model, version).loc == ("dataset",)  # type: ignore[union-attr]
    assert dataset_fit.training_objection(tuned, None, version) is None


def test_one_logit_tells_two_classes_apart(shelf: Shelf) -> None:
    spec = train("cnn", 2, output="sigmoid")
    assert objection(shelf.images(30), spec) is None
    refused = objection(shelf.images(30, classes=3), spec)
    assert (refused.loc, "softmax" in refused.msg) == (("model", "output"), True)


def test_labelled_texts_are_counted_as_the_runner_counts_them(shelf: Shelf) -> None:
    path = shelf.folder / "questions.csv"
    path.write_text("text,label\n" + "".join(f"is it {n},{'yes' if n % 2 else 'no'}\n" for n in range(40)))
    version = registry.register(shelf.engine, shelf.settings, "questions", path)
    left = shelf.rows_trained_on(version, train("text_classifier", 1))
    assert objection(version, train("text_classifier", left)) is None
    refused = objection(version, train("text_classifier", left + 1))
    assert refused.loc == ("training", "batch_size")
    assert "training texts" in refused.msg
    assert f"at most {left}" in refused.msg
    three = objection(shelf.text(400), train("text_classifier", 1))
    assert (three.loc, "has no classes" in three.msg) == (("model", "family"), True)


def test_a_classifier_of_text_is_not_fine_tuned_on_text_without_classes(shelf: Shelf) -> None:
    body = {"kind": "finetune", "model_ref": "questions", "dataset": "x"}
    model = train("text_classifier", 1).model.model_dump()
    refused = dataset_fit.training_objection(FinetuneJob.model_validate(body), model, shelf.text(400))
    assert refused is not None
    assert refused.loc == ("dataset",)
    assert "has no classes" in refused.msg


# -- tables -----------------------------------------------------------------------------------------

PEOPLE = "age,color,kind,income\n" + "".join(
    f"{n},{('red', 'blue')[n % 2]},{('a', 'b', 'c')[n % 3]},{n * 10.5 if n % 10 else ''}\n" for n in range(60)
)


def on_table(model: dict[str, Any], batch_size: int = 8, split: float = 0.1, **training: Any) -> TrainJob:
    return TrainJob.model_validate(
        {
            "kind": "train", "dataset": "people", "model": {"family": "mlp", **model},
            "training": {"batch_size": batch_size, "validation_split": split, **training},
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "place", "message"),
    [
        ({}, ("model", "target"), "is required: the column to predict. people@1 has age, color, kind, income"),
        ({"target": "Kind "}, ("model", "target"), "people@1 has no column 'Kind '; did you mean 'kind'?"),
        ({"target": "zzz"}, ("model", "target"), "has no column 'zzz'; it has age, color, kind, income"),
        ({"target": "kind", "features": ["age", "x"]}, ("model", "features", 1), "has no column 'x'"),
        ({"target": "kind", "categorical": ["x"]}, ("model", "categorical", 0), "has no column 'x'"),
        ({"target": "color", "task": "numbers"}, ("model", "target"), "column 'color' is text; the task numbers needs"),
    ],
)
def test_a_setting_that_does_not_fit_the_columns_is_refused_by_name(
    shelf: Shelf, model: dict[str, Any], place: tuple[str, ...], message: str
) -> None:
    refused = objection(shelf.table(PEOPLE), on_table(model))
    assert refused.loc == place
    assert message in refused.msg


def test_text_in_a_column_of_numbers_is_refused_with_its_line(shelf: Shelf) -> None:
    version = shelf.table(PEOPLE.replace("\n16,", "\nabc,"))
    refused = objection(version, on_table({"target": "kind"}))
    assert refused.loc == ("model", "features")
    assert (
        "people@1: column 'age' is text, because line 18 has 'abc' (1 of its 60 values are no numbers)" in refused.msg
    )
    assert objection(version, on_table({"target": "kind", "categorical": ["age"]})) is None
    assert objection(version, on_table({"target": "kind", "features": ["color"]})) is None
    target = objection(version, on_table({"target": "age", "task": "numbers"}))
    assert (target.loc, "line 18 has 'abc'" in target.msg) == (("model", "target"), True)


@pytest.mark.parametrize("split", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("target", ["age", "income"])
def test_rows_with_a_number_are_counted_as_the_runner_counts_them(shelf: Shelf, target: str, split: float) -> None:
    version = shelf.table(PEOPLE)
    left = shelf.rows_trained_on(version, on_table({"target": target}, 1, split))
    assert objection(version, on_table({"target": target}, left, split)) is None
    refused = objection(version, on_table({"target": target}, left + 1, split))
    assert (refused.loc, f"at most {left} rows" in refused.msg) == (("training", "batch_size"), True)


def test_rows_with_a_class_are_counted_from_above(shelf: Shelf) -> None:
    version, model = shelf.table(PEOPLE), {"target": "kind"}
    left = shelf.rows_trained_on(version, on_table(model, 1))
    assert objection(version, on_table(model, left)) is None
    assert objection(version, on_table(model, 61)).loc == ("training", "batch_size")


@pytest.mark.parametrize(
    ("target", "metric", "refused"),
    [
        ("kind", "val_r2", True),
        ("kind", "val_accuracy", False),
        ("income", "val_accuracy", True),
        ("income", "val_r2", False),
    ],
)
def test_early_stopping_watches_what_the_model_has(shelf: Shelf, target: str, metric: str, refused: bool) -> None:
    spec = on_table({"target": target}, early_stopping={"metric": metric})
    found = objection(shelf.table(PEOPLE), spec)
    assert (found is not None and found.loc == ("training", "early_stopping", "metric")) is refused
    assert found is None or "has no" in found.msg


@pytest.mark.parametrize(
    ("target", "metric", "known"),
    [("kind", "test_r2", "test_accuracy"), ("income", "f1_macro", "test_r2"), ("income", "test_loss", "test_r2")],
)
def test_a_promotion_goes_by_what_the_model_is_judged_by(shelf: Shelf, target: str, metric: str, known: str) -> None:
    version = shelf.table(PEOPLE)
    promote = {"metric": metric, "evaluate_on": "people@1"}
    spec = on_table({"target": target}).model_copy(update={"promote": Promotion.model_validate(promote)})
    facts = dataset_fit.Facts("mlp", model=spec.model.model_dump(), dataset=version, judged_on=version)
    found = dataset_fit.objection(spec, facts)
    assert found is not None
    assert (found.loc, known in found.msg) == (("promote", "metric"), True)


def test_a_model_is_not_fine_tuned_on_a_table_without_its_target(shelf: Shelf) -> None:
    version = shelf.table(PEOPLE)
    body = {"kind": "finetune", "dataset": "people", "model_ref": "m", "training": {"batch_size": 8}}
    tuned = FinetuneJob.model_validate(body)
    model = on_table({"target": "price"}).model.model_dump()
    found = dataset_fit.training_objection(tuned, model, version)
    assert found is not None
    assert (found.loc, "has no column 'price'" in found.msg) == (("dataset",), True)
    assert dataset_fit.training_objection(tuned, on_table({"target": "kind"}).model.model_dump(), version) is None
    assert dataset_fit.training_objection(tuned, None, version) is None


@pytest.mark.parametrize("target", ["kind", "income", "color"])
def test_what_a_table_lets_expect_is_what_the_learner_gets(shelf: Shelf, target: str) -> None:
    version, spec = shelf.table(PEOPLE), on_table({"target": target})
    load_splits = families.part("mlp", "load_splits")
    found = load_splits(registry.dataset_folder(shelf.settings, version), spec.model, spec.training).facts
    assert spec.model.layers(spec.model.expected_facts(version.summary)) == spec.model.layers(found)
