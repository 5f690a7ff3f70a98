"""A `transformers` callback for own programs: metric rows, progress, checkpoints, resuming and stopping of a `Trainer`.

    def train(run):
        callback = NightshiftCallback(run)
        arguments = TrainingArguments(
            run.scratch / "trainer", seed=run.seed, save_strategy="no", report_to="none", logging_steps=1
        )
        trainer = Trainer(model, arguments, train_dataset=data, callbacks=[callback])
        trainer.train(resume_from_checkpoint=callback.resume_from_checkpoint)

A checkpoint is what the Trainer saves: weights, optimizer, schedule, random states and its place in the data. A resumed
run ends with the same bits as an untouched one, at whichever step it stopped. `loss` is a mean since the row before it:
the first one after a checkpoint between two rows covers fewer steps, unless `logging_steps` is 1.

The run decides when to save, so set `save_strategy="no"`. An evaluation that is due at the step of a stop runs first,
because the Trainer saves after it; after `cancel` it does not.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from nightshift.integrations.rows import StepRows
from nightshift.programs import Run

#: The folder of a checkpoint with what the Trainer saves.
_FOLDER = "trainer"
#: What is in the log at the end of training only, and the ends of names that tell how fast it went. Rows follow from
#: steps, not from time.
_SUMMARY, _PACE = "train_runtime", ("_runtime", "_per_second", "_time")
#: Facts of the log that are no metrics.
_NO_METRICS = ("epoch", "total_flos", "num_input_tokens_seen")


class NightshiftCallback(TrainerCallback):
    """Connects one call of `Trainer.train` with a run. Metrics of its evaluation are named `val_…`, as everywhere."""

    def __init__(self, run: Run) -> None:
        self.run = run
        saved = run.latest()
        #: The argument of `train`; None for a new run.
        self.resume_from_checkpoint: str | None = str(saved.folder / _FOLDER) if saved else None
        self._rows = StepRows(run)
        self._asked, self._stopped = False, False

    # -- hooks of transformers --------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Refuse settings that leave nothing to resume from. Raises ValueError."""
        if args.save_only_model:
            raise ValueError("save_only_model=True saves no state that a run could be resumed from")

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Report the step; stop or save, if that is asked for. A complete epoch is saved by `on_epoch_end`."""
        self._rows.reach(state.global_step)
        self._progress(state)
        self._heed(state, control)
        if not _is_complete(state):
            self._ask_to_save(state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Save a complete epoch, if that is asked for, after its evaluation. A part of an epoch ends here, too."""
        self._heed(state, control)
        if _is_complete(state):
            self._ask_to_save(state, control)
        elif self._stopped:
            control.should_log = control.should_evaluate = control.should_save = False

    def on_prediction_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Show that the run is alive."""
        self._progress(state)

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Stop after an evaluation, if that is asked for; the state is saved then."""
        self._heed(state, control)
        if self._stopped:
            self._ask_to_save(state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Log metrics."""
        if logs and _SUMMARY not in logs:
            self._rows.add(_metrics(logs), state.global_step, int(state.epoch or 0))

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Save what the Trainer has saved, if this callback asked for it."""
        if not self._asked:
            return
        self._asked = False
        self._rows.flush()
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.run.save(state.global_step, files={_FOLDER: folder})
        if args.save_strategy == "no":
            shutil.rmtree(folder)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Write what is left."""
        self._rows.flush()

    # -- stopping and saving ----------------------------------------------------------------------

    def _progress(self, state: Any) -> None:
        self.run.progress(state.global_step, state.max_steps or None, int(state.epoch or 0))

    def _heed(self, state: Any, control: Any) -> None:
        """Stop, if that is asked for; at once if nothing is to be kept."""
        self._stopped = self._stopped or self.run.should_stop()
        if self._stopped:
            control.should_training_stop = True
        if self.run.stop_reason == "cancel":
            control.should_log = control.should_evaluate = control.should_save = False

    def _ask_to_save(self, state: Any, control: Any) -> None:
        """Let the Trainer save after what else is due at this step."""
        if self.run.stop_reason != "cancel" and (self._stopped or self.run.checkpoint_due(state.global_step)):
            control.should_save = self._asked = True


def _is_complete(state: Any) -> bool:
    """Return whether the step is the last one of an epoch."""
    return float(state.epoch or 0).is_integer()


def _metrics(logs: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: float(value) for name, value in logs.items() if isinstance(value, int | float)}
    kept = {name: value for name, value in numbers.items() if name not in _NO_METRICS and not name.endswith(_PACE)}
    if not math.isfinite(kept.get("grad_norm", 0.0)):  # of a step that a loss scaler has skipped
        del kept["grad_norm"]
    return {name.replace("eval_", "val_", 1) if name.startswith("eval_") else name: kept[name] for name in kept}
