"""The Keras callback with the real library: killed, stopped and resumed runs end with the bits of an untouched one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.program_runs import Job, documented

keras: Any = pytest.importorskip("keras")
callbacks: Any = pytest.importorskip("nightshift.integrations.keras")

#: 20 rows in batches of 8: three steps an epoch.
ROWS, BATCH, EPOCHS = 20, 8, 4
STEPS = 3 * EPOCHS


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    keras.utils.clear_session()


def data(part: int = 0) -> tuple[Any, Any]:
    generator = np.random.default_rng(part)
    return generator.normal(size=(ROWS, 4)).astype("float32"), generator.integers(0, 3, ROWS)


def train(
    run: Any,
    *,
    rate: float = 0.05,
    units: int = 6,
    validated: bool = True,
    shuffled: bool = True,
    eager: bool = True,
    **options: Any,
) -> list[Any]:
    """Train a model with dropout, whose seed is part of the state, and return its weights."""
    keras.utils.set_random_seed(run.seed)
    layers = [keras.layers.Dense(units, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.layers.Input((4,)), *layers])
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=eager
    )
    callback = callbacks.NightshiftCallback(run, **options)
    given = (callback.shuffled(data(), batch_size=BATCH),) if shuffled else data()
    model.fit(
        *given,
        batch_size=None if shuffled else BATCH,
        epochs=EPOCHS,
        initial_epoch=callback.initial_epoch,
        validation_data=data(1) if validated else None,
        validation_batch_size=BATCH,
        callbacks=[callback],
        verbose=0,
    )
    return list(model.get_weights())


def same(found: list[Any], wanted: list[Any]) -> bool:
    return all(ours.tobytes() == theirs.tobytes() for ours, theirs in zip(found, wanted, strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return an untouched job."""
    job = Job(tmp_path_factory.mktemp("whole"), train)
    job.attempt()
    return job


def test_rows_follow_from_steps(whole: Job) -> None:
    assert whole.steps_of("loss") == whole.steps_of("accuracy") == list(range(1, STEPS + 1))
    assert whole.steps_of("val_loss") == whole.steps_of("val_accuracy") == [3, 6, 9, 12]
    assert {row.epoch for row in whole.rows if row.step <= 3} == {0}
    assert whole.saved == [6, 12], "due at steps 4 and 10, saved at the ends of the epochs"


def test_the_last_step_of_an_epoch_has_the_mean_of_the_epoch(tmp_path: Path) -> None:
    history: list[float] = []

    def kept(run: Any) -> None:
        fit = keras.Model.fit
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keras.Model, "fit", lambda *a, **k: history.extend(fit(*a, **k).history["loss"]))
            train(run, every=2)

    job = Job(tmp_path, kept)
    reporter = job.attempt()
    assert job.steps_of("loss") == [2, 3, 4, 6, 8, 9, 10, 12]
    assert [row.value for row in job.rows if row.name == "loss" and row.step % 3 == 0] == history
    assert reporter.totals == {STEPS}


@pytest.mark.parametrize("at", [5, 7, 9, 11])
def test_a_killed_run_ends_like_an_untouched_one(whole: Job, tmp_path: Path, at: int) -> None:
    job = Job(tmp_path, train)
    job.attempt(at=at)
    assert job.result is None
    resumed = job.attempt()
    assert resumed.steps[0] == (1 if at == 5 else 7)
    assert same(job.result, whole.result)
    assert job.rows == whole.rows


@pytest.mark.parametrize("at", [2, 4, 6, 8, 12])
def test_a_stopped_run_loses_only_its_unfinished_epoch(whole: Job, tmp_path: Path, at: int) -> None:
    job = Job(tmp_path, train, every_steps=100)
    stopped = job.attempt(stop="pause", at=at)
    assert max(stopped.steps) == at
    complete = (at - 1) // 3 * 3  # a stop within the last step of an epoch comes before its validation
    assert job.saved == ([complete] if complete else [])
    job.attempt()
    assert same(job.result, whole.result)
    assert job.rows == whole.rows


def test_a_stop_ends_a_validation_within_a_batch(tmp_path: Path) -> None:
    job = Job(tmp_path, train, every_steps=100)
    seen: list[Any] = []

    def counted(run: Any) -> None:
        on_test_batch_end = callbacks.NightshiftCallback.on_test_batch_end

        def stopped(self: Any, batch: int, logs: Any = None) -> None:
            seen.append(batch)
            if len(seen) == 4:  # the first batch of the second validation
                run._reporter.stop_reason = "drain"
            on_test_batch_end(self, batch, logs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(callbacks.NightshiftCallback, "on_test_batch_end", stopped)
            train(run)

    job = Job(tmp_path, counted, every_steps=100)
    job.attempt()
    assert seen == [0, 1, 2, 0]
    assert job.saved == [3]


@pytest.mark.slow
def test_plain_arrays_and_compiled_steps_resume_exactly_too(tmp_path: Path) -> None:
    untouched, job = (Job(tmp_path / name, partial(train, shuffled=False, eager=False)) for name in ("whole", "killed"))
    untouched.attempt()
    job.attempt(at=8)
    job.attempt()
    assert same(job.result, untouched.result)


def test_a_run_that_need_not_be_exact_keeps_each_step(tmp_path: Path) -> None:
    job = Job(tmp_path, partial(train, exact=False))
    job.attempt(stop="pause", at=5)
    assert job.saved == [4, 5]
    resumed = job.attempt()
    assert resumed.steps[0] == 6
    assert max(resumed.steps) == 5 + 3 * 3, "the second epoch is repeated"
    assert job.steps_of("loss") == list(range(1, 15))


def test_the_best_weights_survive_a_kill(tmp_path: Path) -> None:
    options: dict[str, Any] = {"rate": 1.0, "monitor": "val_loss"}
    untouched, job = (Job(tmp_path / name, partial(train, **options), every_steps=1) for name in ("whole", "killed"))
    untouched.attempt()
    values = {row.step: row.value for row in untouched.rows if row.name == "val_loss"}
    best = min(values, key=lambda step: values[step])
    assert best < STEPS, "the rate is too high: the last epoch must not be the best one"
    job.attempt(at=best + 1)
    job.attempt()
    assert same(job.result, untouched.result)
    stopped = Job(tmp_path / "stopped", partial(train, **options), every_steps=1)
    stopped.attempt(stop="finish", at=best + 1)
    assert same(stopped.result, untouched.result)


def test_the_best_checkpoint_is_marked(tmp_path: Path) -> None:
    job = Job(tmp_path, partial(train, rate=1.0, monitor="val_loss"), every_steps=1)
    reporter = job.attempt()
    values = [row.value for row in job.rows if row.name == "val_loss"]
    improved = [3 * (n + 1) for n, value in enumerate(values) if value < min([*values[:n], np.inf])]
    assert [point.step for point in reporter.kept.values() if point.is_best] == improved


def test_a_side_that_is_not_known_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not know which val_odd is better"):
        Job(tmp_path, partial(train, monitor="val_odd")).attempt()
    Job(tmp_path / "given", partial(train, monitor="val_loss", mode="max")).attempt()


def test_a_monitor_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no val_loss at the end of an epoch, only accuracy, loss"):
        Job(tmp_path, partial(train, monitor="val_loss", validated=False)).attempt()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    Job(tmp_path, train).attempt(at=8)
    with pytest.raises(ValueError, match=r"the checkpoint of step 6 is one of another model: \[\[4, 6\]"):
        Job(tmp_path, partial(train, units=7)).attempt()


def test_a_fit_that_begins_with_another_epoch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Job(tmp_path, train).attempt(at=8)
    fit = keras.Model.fit
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **k: fit(*a, **{**k, "initial_epoch": 0}))
    with pytest.raises(ValueError, match=r"initial_epoch=callback.initial_epoch, 2; it got 0"):
        Job(tmp_path, train).attempt()


def test_shuffled_batches_have_each_row_once_in_an_order_of_the_epoch() -> None:
    x = np.arange(ROWS)
    batches = callbacks.ShuffledBatches(({"x": x}, x), batch_size=BATCH, seed=3)

    def order(epoch: int) -> list[int]:
        batches.epoch = epoch
        found = [batches[number] for number in range(len(batches))]
        assert all((given["x"] == wanted).all() for given, wanted in found)
        return [int(row) for _, wanted in found for row in wanted]

    first, second = order(0), order(1)
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert first != second
    assert order(0) == first


def test_weights_in_bfloat16_survive(tmp_path: Path) -> None:
    def half(run: Any) -> list[Any]:
        keras.config.set_dtype_policy("bfloat16")
        try:
            return train(run, shuffled=True)
        finally:
            keras.config.set_dtype_policy("float32")

    untouched, job = Job(tmp_path / "whole", half), Job(tmp_path / "killed", half)
    untouched.attempt()
    job.attempt(at=8)
    job.attempt()
    assert same(job.result, untouched.result)


# Keras' own use of NumPy, where it writes a model.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_documented_program_resumes_exactly(tmp_path: Path) -> None:
    """The snippet of docs/howto/own-program.md, as it stands there."""

    def new_model(params: Any) -> Any:
        model = keras.Sequential(
            [keras.layers.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(3, "softmax")]
        )
        model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
        return model

    module = "nightshift.integrations.keras"
    program = documented(module, new_model=new_model, data=lambda part: data(int(part == "test")))
    jobs = [Job(tmp_path / name, program, 2, SimpleNamespace(epochs=3)) for name in ("whole", "killed")]
    jobs[0].attempt()
    jobs[1].attempt(at=3)
    assert jobs[1].saved
    jobs[1].attempt()
    assert jobs[1].rows == jobs[0].rows
    assert (tmp_path / "killed" / "artifacts" / "model" / "model.keras").exists()
