"""The program: a few trees at a time, a checkpoint after each few."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import sklearn
from sklearn.metrics import log_loss, mean_squared_error

from nightshift.programs import Run
from nightshift_gbm import model as models
from nightshift_gbm import tables, trees
from nightshift_gbm.model import Predictor
from nightshift_gbm.trees import Model

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Data:
    """The rows of each part as numbers, and what they mean. `classes` is empty for regression."""

    x: dict[str, npt.NDArray[np.float32]]
    y: dict[str, npt.NDArray[Any]]
    columns: list[tables.Feature]
    left_out: list[str]
    classes: list[Any]


def train(run: Run) -> None:
    """Train until all trees are grown or the run must stop; register the model."""
    data = read(run)
    if data.left_out:
        run.note(f"columns that are not used: {', '.join(data.left_out)}")
    settings = {"max_depth": run.params.depth, "learning_rate": run.params.learning_rate}
    rng = np.random.RandomState()
    model, done = begun(run, data, settings, rng)
    while done < run.params.trees and not run.should_stop():
        # The numbers of each part follow from the seed and its first tree alone, so a resumed run draws the same.
        rng.seed([run.seed % 2**32, done])
        wanted = min(done + run.params.trees_per_checkpoint, run.params.trees)
        model.set_params(n_estimators=wanted).fit(data.x["train"], data.y["train"], monitor=watched(run))
        done = len(model.estimators_)
        run.log(measured(model, data, "train") | measured(model, data, "valid"), done)
        if done < wanted:
            break  # told to stop between two checkpoints: the newest one stands
        run.save(done, arrays=trees.to_arrays(model), facts={"scikit_learn": sklearn.__version__})
    if done and run.stop_reason in (None, "finish"):
        finish(run, Predictor(model, data.columns, data.classes, settings), data)


def begun(run: Run, data: Data, settings: dict[str, Any], rng: np.random.RandomState) -> tuple[Model, int]:
    """Return the model of the newest checkpoint and its trees, or a new one."""
    model = trees.new_model(settings, rng, classes=len(data.classes))
    saved = run.latest()
    if saved is None:
        return model, 0
    if saved.facts["scikit_learn"] != sklearn.__version__:
        run.note(f"the checkpoint is of scikit-learn {saved.facts['scikit_learn']}, so training begins anew")
        return model, 0
    return trees.from_arrays(saved.arrays(), model, columns=len(data.columns), classes=len(data.classes)), saved.step


def watched(run: Run) -> Any:
    """Return a monitor for `fit`: it reports each tree, and ends the fit when the run must stop."""

    def monitor(place: int, model: Model, _: dict[str, Any]) -> bool:
        run.progress(place + 1, run.params.trees)
        return run.should_stop()

    return monitor


def finish(run: Run, predictor: Predictor, data: Data) -> None:
    """Register the model with its metrics, and keep how much each column counts."""
    weights = predictor.model.feature_importances_
    importances = {column.name: float(weight) for column, weight in zip(data.columns, weights, strict=True)}
    path = run.scratch / "importances.json"
    path.write_text(json.dumps(dict(sorted(importances.items(), key=lambda item: -item[1])), indent=1))
    run.artifact(path)
    metrics = measured(predictor.model, data, "test")
    run.register(models.save(predictor, run.scratch / "model"), metrics)


# -- data and metrics -----------------------------------------------------------------------------


def read(run: Run) -> Data:
    """Return the rows. Raises ValueError for a table that cannot be learned from."""
    assert run.dataset is not None
    table = pq.read_table(run.dataset / "table.parquet")
    target = run.params.target
    if target not in table.column_names:
        raise ValueError(f"the table has no column {target!r}; its columns: {', '.join(table.column_names[:50])}")
    table = table.filter(pa.compute.is_valid(table[target]))
    rows = split(len(table), run.params.test_share, run.seed)
    columns, left_out = tables.features(table.take(rows["train"]), target)
    if not columns:
        raise ValueError("no column is a number or a text of few values")
    is_class = tables.classifies(run.params.task, table[target])
    y, classes = coded(table[target], rows["train"]) if is_class else (numbers(table[target], target), [])
    known = {part: place[y[place] >= 0] if is_class else place for part, place in rows.items()}
    x = tables.matrix(table, columns)
    return Data(
        {part: x[known[part]] for part in PARTS}, {part: y[known[part]] for part in PARTS}, columns, left_out, classes
    )


def split(count: int, test_share: float, seed: int) -> dict[str, npt.NDArray[np.int64]]:
    """Return the rows of each part, drawn by the seed. Raises ValueError for too few."""
    test, valid = round(count * test_share), round(count * test_share / 2)
    if min(test, valid, count - test - valid) < 2:
        raise ValueError(f"{count} rows with a target are too few for training, validation and test")
    order = np.argsort(np.random.Philox(key=seed).random_raw(count), kind="stable")
    parts = np.split(order, [count - test - valid, count - test])
    return {part: np.sort(place) for part, place in zip(PARTS, parts, strict=True)}


def coded(column: pa.ChunkedArray, train_rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Return each row's class, -1 for one without a training row, and the classes. Raises ValueError for one class."""
    if pa.types.is_temporal(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.string())  # as JSON, which keeps the classes, has them
    classes = sorted(set(column.take(train_rows).to_pylist()))
    if len(classes) < 2:
        raise ValueError(f"the target has only one class in the training rows: {classes[0]}")
    places = pa.compute.index_in(column, value_set=pa.array(classes, column.type))
    return np.asarray(pa.compute.fill_null(places, -1).to_numpy(), np.int64), classes


def numbers(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    """Return the target as numbers. Raises ValueError for text and for values that are not finite."""
    try:
        found = np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{name!r} holds no numbers; classification takes any values") from error
    if not np.isfinite(found).all():
        raise ValueError(f"{name!r} has values that are not finite")
    return found


def measured(model: Model, data: Data, part: str) -> dict[str, float]:
    """Return the metrics of a part: log loss and accuracy, or the mean squared error."""
    x, y = data.x[part], data.y[part]
    before = {"train": "", "valid": "val_", "test": "test_"}[part]
    if not data.classes:
        return {f"{before}loss": float(mean_squared_error(y, model.predict(x)))}
    chances = model.predict_proba(x)
    accuracy = float(np.mean(chances.argmax(axis=1) == y))
    loss = float(log_loss(y, chances, labels=list(range(len(data.classes)))))
    return {f"{before}loss": loss, f"{before}accuracy": accuracy}
