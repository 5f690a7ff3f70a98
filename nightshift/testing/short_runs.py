"""Short runs of a case in the process of a check, resumed from a checkpoint that lacks one of its items."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nightshift.families.learner import LearnerState
from nightshift.testing.attempts import NullReporter
from nightshift.testing.cases import Case, snapshot
from shared.job_files.checkpoint_record import CheckpointRecord
from worker.training.checkpoints import CheckpointWriter, Restored, restore, run_facts
from worker.training.state import RunState
from worker.training.trainer import Trainer

#: With the first every validation improves, so the means of its epoch show in what is best; with the second the first
#: validation stays the best, so whatever is remembered of it shows at the end.
IMPROVING, STALE = 0.0, 1e6
SAVED_AT = 44
#: Most of what can be missing shows after three steps already; only the rest is looked for at the end of the run.
SOON = {3: "pause"}


def short(case: Case, min_delta: float) -> dict[str, Any]:
    """Return the settings of a run of 50 steps."""
    return {
        "epochs": 6, "max_steps": 50, "batch_size": 64,
        "early_stopping": {"metric": case.watched, "patience": 50, "min_delta": min_delta},
    }  # fmt: skip


class Run:
    """Short runs in this process, from a state or from nothing."""

    def __init__(self, case: Case, data_set: Path, folder: Path, training: dict[str, Any], learner: Any = None) -> None:
        self.case, self.folder, self.training = case, folder, training
        self.splits = case.load_splits(data_set, **training)
        self.learner = learner or self.build()
        self.new = snapshot(self.learner)
        self.after = self.at_epoch(self.learner)

    def at_epoch(self, learner: Any) -> Any:
        return self.case.at_epoch(learner, self.splits, self.folder, **self.training)

    def build(self) -> Any:
        return self.case.build(self.splits, **self.training)

    def go(
        self, restored: Restored | None, stops: dict[int, str] | None = None, learner: Any = None
    ) -> tuple[Any, NullReporter]:
        """Run with the learner of all its runs, because building one takes seconds in TensorFlow, or with a new one."""
        after = self.at_epoch(learner) if learner else self.after
        learner = learner or self.learner
        learner.load_state(restored.learner if restored is not None else self.new)
        reporter = NullReporter(stops)
        job = self.case.job(**self.training)
        state = restored.run if restored else RunState()
        writer = CheckpointWriter(self.folder, 1, reporter)
        loop = Trainer(learner, self.splits, job.training, job.checkpoint, writer, reporter, state, at_epoch=after)
        loop.run()
        writer.wait()
        facts = json.loads(json.dumps(run_facts(state)))
        facts["history"].pop("samples_per_second")
        best = {name: array.tobytes() for name, array in (state.best.weights or {}).items()}
        return ({name: array.tobytes() for name, array in learner.weights().items()}, best, facts), reporter

    @cached_property
    def untouched(self) -> Any:
        """The outcome of a run from nothing."""
        return self.go(None)[0]

    @cached_property
    def point(self) -> CheckpointRecord:
        """The checkpoint that a run leaves when it is paused."""
        _, reporter = self.go(None, {SAVED_AT: "pause"})
        return next(f for f in reporter.frames if isinstance(f, CheckpointRecord) and f.step == SAVED_AT)

    @cached_property
    def _restored(self) -> Restored:
        restored, damaged = restore(self.folder, [self.point])
        assert restored is not None
        assert not damaged
        return restored

    def restored(self) -> Restored:
        """Return a copy of its own: a run changes what it is given."""
        return deepcopy(self._restored)

    def items(self) -> list[str]:
        """Return the items of the learner's state: its arrays, and the facts that change while it trains."""
        state = self.restored().learner
        changed = [name for name, value in state.facts.items() if value != self.new.facts.get(name)]
        return [f"learner:{name}" for name in state.arrays] + [f"fact:{name}" for name in changed]


def without(run: Run, item: str) -> Restored | None:
    """Return the checkpoint with one item as a new run has it; None where that is what was saved.

    An array or a fact of the learner that a new run does not have, or has with this value, is left out.
    """
    part, _, name = item.partition(":")
    if part == "run":
        return _without_of_run(run, name)
    again, fresh = run.restored(), run.new
    facts, arrays = dict(again.learner.facts), dict(again.learner.arrays)
    if part == "fact":
        del facts[name]
    else:
        old = arrays.pop(name)
        if name in fresh.arrays and not np.array_equal(old, fresh.arrays[name]):
            arrays[name] = fresh.arrays[name]
    return replace(again, learner=LearnerState(arrays, facts))


def _without_of_run(run: Run, name: str) -> Restored | None:
    again = run.restored()
    target, new = again.run, RunState()  # type: Any, Any
    for part in name.split(".")[:-1]:
        target, new = getattr(target, part), getattr(new, part)
    last = name.rpartition(".")[2]
    if getattr(target, last) == getattr(new, last):
        return None
    setattr(target, last, getattr(new, last))
    return again


def unnoticed(run: Run, items: Sequence[str]) -> list[str]:
    """Return those of `items` that can be missing from a checkpoint without anything at the end being different."""
    soon, _ = run.go(run.restored(), SOON)
    return [item for item in items if not _noticed(run, item, soon)]


def remembers(run: Run) -> bool:
    """Return whether the learner that was used for all runs goes on differently than it did."""
    return bool(run.go(run.restored())[0] != run.untouched)


def _noticed(run: Run, item: str, soon: Any) -> bool:
    damaged = without(run, item)
    if damaged is None:
        return False
    if _differs(run, damaged, soon, SOON):
        return True
    again = without(run, item)
    return again is not None and _differs(run, again, run.untouched, {})


def _differs(run: Run, damaged: Restored, expected: Any, stops: dict[int, str]) -> bool:
    try:
        found, _ = run.go(damaged, stops)
    except Exception:
        return True
    return bool(found != expected)
