"""A Keras callback for own programs: metric rows, progress, checkpoints, resuming and stopping of `model.fit`.

    def train(run):
        keras.utils.set_random_seed(run.seed)
        model = new_model(run.params)
        callback = NightshiftCallback(run)
        model.fit(
            callback.shuffled((x, y), batch_size=32),
            epochs=run.params.epochs,
            initial_epoch=callback.initial_epoch,
            callbacks=[callback],
        )

A resumed run ends with the same bits as an untouched one, because checkpoints hold the state at the end of an epoch:
weights, the state of random layers such as dropout, and the optimizer. A run that stops within an epoch continues at
the beginning of that epoch. What else the result depends on must depend on the epoch only: `shuffled` gives such an
order of the rows, and the callback seeds Python, NumPy and the backend anew before each epoch. With plain arrays
Keras takes the rows of each epoch in the same order, if it is seeded. `tf.data` pipelines that shuffle, and callbacks
with a state of their own (`EarlyStopping`, `ReduceLROnPlateau`), are not restored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from nightshift.integrations.rows import StepRows
from nightshift.metrics import sense
from nightshift.programs import Checkpoint, Run

#: The weights and other variables of a model, those of its optimizer, and the best weights: a prefix per part.
_MODEL, _OPTIMIZER, _BEST = "model/", "optimizer/", "best/"
#: Seeds of NumPy are below this.
_SEEDS = 2**32


class NightshiftCallback(keras.callbacks.Callback):
    """Connects one call of `model.fit` with a run. It restores the newest checkpoint when training begins.

    `every`: steps between metric rows within an epoch, which Keras computes as means since the epoch's beginning; each
    epoch's end gives a row in any case. `monitor`: a metric of an epoch's end (`val_loss`); the model has the weights
    of the best epoch after `fit`. `mode`: which side is better, if Nightshift does not know the metric.

    `exact=False` saves within an epoch, too: a run that stops there keeps its weights and repeats the epoch from its
    beginning, so its result differs from that of an untouched run. Use it where an epoch takes hours.

    Raises ValueError for a `monitor` of which neither side is known to be better.
    """

    def __init__(
        self,
        run: Run,
        *,
        every: int = 1,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        exact: bool = True,
    ) -> None:
        super().__init__()
        self.run, self.every, self.monitor, self.exact = run, every, monitor, exact
        self._better = mode or (sense(monitor) if monitor else None)
        if monitor and self._better is None:
            raise ValueError(f"set mode='min' or mode='max': Nightshift does not know which {monitor} is better")
        self._saved = run.latest()
        facts = self._saved.facts if self._saved else {}
        #: The argument of `fit`: the epoch to continue with.
        self.initial_epoch: int = facts.get("epoch", 0)
        self._step = self._saved.step if self._saved else 0
        self._epoch, self._begun_at = self.initial_epoch, self._step
        self._best: float | None = facts.get("best")
        self._best_epoch: int | None = facts.get("best_epoch")
        self._best_weights: list[Any] = []
        #: What a checkpoint of the last complete epoch holds, until it is saved.
        self._last: _State | None = None
        self._rows = StepRows(run)
        self._batches: list[ShuffledBatches] = []
        self._begins, self._stopped = True, False

    def shuffled(self, arrays: tuple[Any, ...], *, batch_size: int) -> ShuffledBatches:
        """Return batches of `(x, y)` or `(x, y, sample_weight)`, in an order that follows from seed and epoch."""
        self._batches.append(ShuffledBatches(arrays, batch_size=batch_size, seed=self.run.seed))
        return self._batches[-1]

    # -- hooks of Keras ---------------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Restore the newest checkpoint. Raises ValueError if it is one of another model."""
        if self._saved is None:
            return
        arrays, where = self._saved.arrays(), self._saved
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        _restore(where, arrays, _MODEL, self.model.variables, "model")
        _restore(where, arrays, _OPTIMIZER, self.model.optimizer.variables, "optimizer")
        self._best_weights = _numbered(arrays, _BEST)
        self._saved = None

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Seed what shuffles and augments. Raises ValueError if `fit` begins with another epoch than the checkpoint."""
        if self._begins and epoch != self.initial_epoch:
            raise ValueError(f"fit must get initial_epoch=callback.initial_epoch, {self.initial_epoch}; it got {epoch}")
        self._begins = False
        self._epoch, self._begun_at = epoch, self._step
        keras.utils.set_random_seed((self.run.seed + epoch) % _SEEDS)
        for batches in self._batches:
            batches.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report the step; stop or save, if that is asked for."""
        self._step = self._begun_at + batch + 1
        if self._step % self.every == 0:
            self._rows.add(logs or {}, self._step, self._epoch)
        self._progress()
        if self.run.should_stop():
            self._stop()
        elif not self.exact and self.run.checkpoint_due(self._step):
            self._save(self._state(self._epoch))

    def on_test_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """End a validation when the run must stop. The epoch then counts as not complete."""
        self._progress()
        if not self._stopped and self.run.should_stop():
            self._stop()
        if self._stopped:
            self.model.stop_evaluating = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report a complete epoch and keep its state."""
        if self._stopped:
            return
        self._rows.add(logs or {}, self._step, epoch)
        self._rows.flush()
        self._note_best(epoch, logs or {})
        self._last = self._state(epoch + 1)
        if self.run.should_stop():
            self._stop()
        elif self.run.checkpoint_due(self._step):
            self._save_last()

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Give the model its best weights, if `monitor` names a metric."""
        self._rows.flush()
        for variable, value in zip(self.model.weights, self._best_weights, strict=False):
            variable.assign(value)

    def _progress(self) -> None:
        steps, epochs = self.params.get("steps"), self.params.get("epochs", 0)
        self.run.progress(self._step, steps * epochs if steps else None, self._epoch)

    # -- stopping and saving ----------------------------------------------------------------------

    def _stop(self) -> None:
        """End `fit` after this batch, with a checkpoint."""
        self._stopped = self.model.stop_training = True
        self._rows.flush()
        if self.exact or (self._last and self._last.step == self._step):
            self._save_last()
        else:
            self._save(self._state(self._epoch))

    def _save_last(self) -> None:
        if self._last is not None:
            self._save(self._last)
        self._last = None

    def _save(self, state: _State) -> None:
        self._rows.flush()
        best = state.facts["best_epoch"] is not None and state.facts["best_epoch"] + 1 == state.facts["epoch"]
        self.run.save(state.step, arrays=state.arrays, facts=state.facts, best=best)

    def _state(self, epoch: int) -> _State:
        """Copy what a run needs that continues with `epoch`."""
        arrays = _copied(_MODEL, self.model.variables) | _copied(_OPTIMIZER, self.model.optimizer.variables)
        arrays |= {f"{_BEST}{number}": value for number, value in enumerate(self._best_weights)}
        return _State(self._step, arrays, {"epoch": epoch, "best": self._best, "best_epoch": self._best_epoch})

    def _note_best(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Keep the weights if they are the best so far. Raises ValueError if Keras has no such metric."""
        if self.monitor is None:
            return
        if self.monitor not in logs:
            raise ValueError(f"there is no {self.monitor} at the end of an epoch, only {', '.join(sorted(logs))}")
        value = float(logs[self.monitor])
        sign = 1 if self._better == "max" else -1
        if math.isfinite(value) and (self._best is None or sign * value > sign * self._best):
            self._best, self._best_epoch = value, epoch
            self._best_weights = list(_copied(_BEST, self.model.weights).values())


class ShuffledBatches(keras.utils.PyDataset):
    """Batches of arrays in an order that follows from a seed and the epoch, so a resumed run sees the same ones.

    `arrays` are `(x, y)` or `(x, y, sample_weight)`; each may be a list or a dictionary of arrays. The callback sets
    `epoch`.
    """

    def __init__(self, arrays: tuple[Any, ...], *, batch_size: int, seed: int) -> None:
        super().__init__()
        self.arrays, self.batch_size, self.seed, self.epoch = arrays, batch_size, seed, 0
        self._rows = len(keras.tree.flatten(arrays)[0])
        self._order: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return math.ceil(self._rows / self.batch_size)

    def __getitem__(self, number: int) -> Any:
        if self._order[0] != self.epoch:
            self._order = self.epoch, np.random.default_rng([self.seed, self.epoch]).permutation(self._rows)
        rows = self._order[1][number * self.batch_size : (number + 1) * self.batch_size]
        return keras.tree.map_structure(lambda array: array[rows], self.arrays)


@dataclass(frozen=True)
class _State:
    """The content of a checkpoint, in host memory."""

    step: int
    arrays: Mapping[str, Any]
    facts: Mapping[str, Any]


def _copied(prefix: str, variables: list[Any]) -> dict[str, Any]:
    """Return copies of variables, named by their place: names that Keras gives differ from process to process."""
    return {f"{prefix}{number}": _copy(variable) for number, variable in enumerate(variables)}


def _copy(variable: Any) -> Any:
    """Return a copy; bfloat16, which NumPy does not have, as float32: that loses nothing."""
    value = variable.numpy()
    return np.array(value, dtype="float32" if value.dtype.name == "bfloat16" else value.dtype)


def _numbered(arrays: Mapping[str, Any], prefix: str) -> list[Any]:
    """Return the arrays of a part in the order that they were copied in."""
    return [arrays[f"{prefix}{number}"] for number in range(sum(name.startswith(prefix) for name in arrays))]


def _restore(saved: Checkpoint, arrays: Mapping[str, Any], prefix: str, variables: list[Any], what: str) -> None:
    """Assign a part of a checkpoint. Raises ValueError if it does not fit."""
    values = _numbered(arrays, prefix)
    theirs, ours = [list(value.shape) for value in values], [list(variable.shape) for variable in variables]
    if theirs != ours:
        raise ValueError(f"the checkpoint of step {saved.step} is one of another {what}: {theirs}, here {ours}")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
