"""A PyTorch Lightning callback for own programs: metric rows, progress, checkpoints, resuming and stopping of `fit`.

    def train(run):
        seed_everything(run.seed)
        callback = NightshiftCallback(run)
        trainer = Trainer(max_epochs=run.params.epochs, callbacks=[callback], default_root_dir=run.scratch)
        trainer.fit(model, loader, ckpt_path=callback.ckpt_path)

A resumed run ends with the same bits as an untouched one, because checkpoints hold the state at the end of an epoch:
what Lightning saves, and the random states of Python, NumPy and PyTorch, which order the rows of a `DataLoader` with
`shuffle=True`. A run that stops within an epoch continues at the beginning of that epoch. Loaders with a `generator` of
their own are not restored, and Lightning does not restore `ReduceLROnPlateau` at the end of an epoch.

The callback takes the place of Lightning's `ModelCheckpoint`, which is added by default; `enable_checkpointing=False`
does not go with it. It works with the package `lightning` and with `pytorch_lightning`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nightshift.integrations.rows import StepRows
from nightshift.programs import Run

# Both may be installed, and their classes are not the same: the one that the program has imported counts.
if find_spec("lightning") is None or ("pytorch_lightning" in sys.modules and "lightning" not in sys.modules):
    from pytorch_lightning.callbacks import Checkpoint
else:
    from lightning.pytorch.callbacks import Checkpoint

#: The file of a checkpoint.
_FILE = "lightning.ckpt"


class NightshiftCallback(Checkpoint):
    """Connects one call of `Trainer.fit` with a run.

    `every`: steps between metric rows of what a module logs per step; what it logs per epoch becomes a row in any case.
    Steps are those of `trainer.global_step`.

    `exact=False` saves within an epoch, too: Lightning continues there, but reads its loader from the beginning, unless
    that can be resumed itself. Use it where an epoch takes hours.
    """

    def __init__(self, run: Run, *, every: int = 1, exact: bool = True) -> None:
        super().__init__()
        self.run, self.every, self.exact = run, every, exact
        saved = run.latest()
        #: The argument of `fit`; None for a new run.
        self.ckpt_path: str | None = str(saved.folder / _FILE) if saved else None
        self._file = run.scratch / _FILE
        self._step = saved.step if saved else 0
        #: The step of the complete epoch that the file holds, until it is saved.
        self._held: int | None = None
        self._rows = StepRows(run)
        self._seen: Mapping[str, Any] = {}
        self._per_step: set[str] = set()
        self._total: int | None = None
        self._validation_batches: Any = None
        self._stopped = False

    def state_dict(self) -> dict[str, Any]:
        """Return the random states, for Lightning's checkpoint."""
        return {"random": _random_states()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the random states. Lightning does so before it reads the loaders."""
        _set_random_states(state_dict["random"])

    # -- hooks of Lightning -----------------------------------------------------------------------

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Note how many steps there will be."""
        total = trainer.estimated_stepping_batches
        self._total = int(total) if 0 < total < float("inf") else None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Note the metrics that the step has not logged. Lightning keeps them, and copies them between epochs."""
        self._seen = dict(trainer.callback_metrics)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Report the step; stop or save, if that is asked for."""
        found = self._news(trainer)
        self._per_step |= found.keys()
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            if self._step % self.every == 0:
                self._rows.add(found, self._step, trainer.current_epoch)
        self._progress(trainer)
        if self.run.should_stop():
            self._stop(trainer)
        elif not self.exact and self.run.checkpoint_due(self._step):
            self._write(trainer)
            self._save()

    def on_validation_batch_end(self, trainer: Any, *ignored: Any, **more: Any) -> None:
        """End a validation when the run must stop. The epoch then counts as not complete."""
        if trainer.sanity_checking:
            return
        self._progress(trainer)
        if self.run.should_stop():
            self._stop(trainer)
            raise StopIteration  # Lightning takes it for the end of the loader

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the metrics of a validation."""
        if not trainer.sanity_checking and not self._stopped:
            self._rows.add(self._summary(trainer), self._step, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report a complete epoch and keep its state."""
        if self._stopped:
            return
        self._rows.add(self._summary(trainer), self._step, trainer.current_epoch)
        self._rows.flush()
        stop = self.run.should_stop()
        due = self.run.checkpoint_due(self._step)
        if self.exact or due or stop:
            self._write(trainer)
        if stop:
            self._stop(trainer)
        elif due:
            self._save()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write what is left."""
        self._rows.flush()
        if self._validation_batches is not None:
            trainer.limit_val_batches = self._validation_batches

    # -- stopping and saving ----------------------------------------------------------------------

    def _progress(self, trainer: Any) -> None:
        self.run.progress(self._step, self._total, trainer.current_epoch)

    def _news(self, trainer: Any) -> dict[str, float]:
        """Return the metrics that were logged since `_seen` was noted: old ones are the same tensors as then."""
        found = trainer.callback_metrics
        return {name: float(value) for name, value in found.items() if value is not self._seen.get(name)}

    def _summary(self, trainer: Any) -> dict[str, float]:
        """Return the metrics that were logged for more than a step."""
        return {name: value for name, value in self._news(trainer).items() if name not in self._per_step}

    def _stop(self, trainer: Any) -> None:
        """End `fit` after this batch, with a checkpoint."""
        if self._stopped:
            return
        self._stopped = True
        if not self.exact and self._held != self._step:
            self._write(trainer)
        if self._held is not None:
            self._save()
        # Lightning validates before it stops, and goes on until the least number of epochs.
        self._validation_batches, trainer.limit_val_batches = trainer.limit_val_batches, 0
        trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None
        trainer.should_stop = True

    def _write(self, trainer: Any) -> None:
        trainer.save_checkpoint(self._file)
        self._held = self._step

    def _save(self) -> None:
        """Save the file. Lightning has written it at the step that it holds."""
        assert self._held is not None
        self._rows.flush()
        self.run.save(self._held, files={_FILE: Path(self._file)})
        self._held = None


def _random_states() -> dict[str, Any]:
    """Return the states of the global generators, in types that `torch.load` reads without pickle."""
    numpy_state: Any = np.random.get_state(legacy=True)
    kind, keys, *rest = numpy_state
    states = {"python": random.getstate(), "numpy": (kind, keys.tolist(), *rest), "torch": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def _set_random_states(states: Mapping[str, Any]) -> None:
    version, internal, following = states["python"]
    random.setstate((version, tuple(internal), following))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
