"""A run that was killed anywhere and went on ends like one that was never touched, for every family and framework."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from nightshift.families.learner import LearnerState
from nightshift.metrics import OF_STEPS
from shared.job_files.checkpoint_record import CheckpointRecord
from tests.support import seeds
from tests.support.training import (
    CASES,
    Case,
    Left,
    NullReporter,
    at_epoch,
    attempt,
    build,
    load_splits,
    outcome,
    snapshot,
)
from worker.training.checkpoints import CheckpointWriter, Restored, restore, run_facts
from worker.training.numerics.data_order import DataOrder
from worker.training.state import RunState
from worker.training.trainer import Plan, Trainer


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    found = CASES[request.param]
    pytest.importorskip(found.framework)
    return found


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    """Each is stored once, and the GANs' judge is trained on it once."""
    root = tmp_path_factory.mktemp("datasets")
    return {store: store(root) for store in {case.store for case in CASES.values()}}


@pytest.fixture
def data_set(case: Case, data_sets: dict[Any, Path]) -> Path:
    return data_sets[case.store]


CHECKPOINT_STEPS = 11
#: The writing of the second checkpoint begins when that of the first has ended, so after it one is there for certain.
AFTER_A_CHECKPOINT = 2 * CHECKPOINT_STEPS + 3
#: So that two epochs are 45 steps and more.
BATCH = 32
#: An attempt in TensorFlow takes seconds to begin; what is killed, and how, is the same.
KILLS = {"torch": 3, "tensorflow": 1}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_was_killed_ends_as_one_never_touched(case: Case, data_set: Path, tmp_path: Path) -> None:
    spec = case.spec(batch_size=BATCH)
    spec["checkpoint"]["every_steps"] = CHECKPOINT_STEPS
    steps = Plan(case.job(batch_size=BATCH).training, load_splits(case, data_set).length).total_steps
    seed = seeds.seed()
    kills = sorted(random.Random(seed).sample(range(AFTER_A_CHECKPOINT, steps), KILLS[case.framework]))
    print(f"seed {seed}: killed after {kills} steps of {steps}")
    assert attempt(spec, tmp_path / "untouched", data_set) == 0
    done = 0
    for at in kills:
        # Steps are counted within the attempt; it goes on from the last checkpoint, at most two intervals back.
        assert attempt(spec, tmp_path / "killed", data_set, kill_after=max(1, at - done)) == -9
        done = max((_step(path) for path in checkpoints(tmp_path / "killed")), default=0)
        assert done > 0
    assert attempt(spec, tmp_path / "killed", data_set, threads=2) == 0  # the checkpoint's count of threads wins
    left = Left.of(tmp_path / "killed")
    assert left == Left.of(tmp_path / "untouched")
    assert not OF_STEPS & left.figures.keys()
    shown = {name: value for name, value in left.figures.items() if name.startswith(("train_", "val_"))}
    assert shown == pytest.approx(by_hand(case, left, data_set))


def by_hand(case: Case, left: Left, data_set: Path) -> dict[str, float]:
    """The figures of the epoch whose model was kept, out of the metric rows: what was validated at its end, and the
    means over the rows of data that it trained on."""
    training = case.job(batch_size=BATCH).training
    splits = load_splits(case, data_set, batch_size=BATCH)
    sampler = DataOrder(training.seed, splits.length, BATCH, splits.rows)
    watched = case.training["early_stopping"]["metric"]
    _, best = min((value, step) for (name, step), value in left.rows.items() if name == watched)
    before = best - sampler.steps_per_epoch
    found = {name: value for (name, step), value in left.rows.items() if step == best and name.startswith("val_")}
    for trained in case.trained_on:
        steps = sorted(step for name, step in left.rows if name == trained and before < step <= best)
        seen = [sum(len(sampler.batch(step)) for step in range(*part)) for part in pairwise([before, *steps])]
        means = [left.rows[trained, step] for step in steps]
        found[f"train_{trained}"] = float(np.average(means, weights=seen))
    if "train_perplexity" in found:
        found["train_perplexity"] = math.exp(found["train_loss"])
    return found


def checkpoints(folder: Path) -> list[Path]:
    return list((folder / "checkpoints").glob("[0-9]*"))


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[0])


# -- nothing of the saved state may be missing -----------------------------------------------------


def short(case: Case, min_delta: float) -> dict[str, Any]:
    return {
        "epochs": 6, "max_steps": 50, "batch_size": 64,
        "early_stopping": {"metric": case.watched, "patience": 50, "min_delta": min_delta},
    }  # fmt: skip


#: With the first every validation improves, so the means of its epoch show in what is best; with the second the first
#: validation stays the best, so whatever is remembered of it shows at the end.
IMPROVING, STALE = 0.0, 1e6
SAVED_AT = 44
#: Most of what can be missing shows after three steps already; only the rest is looked for at the end of the run.
SOON = {3: "pause"}


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A row every six steps, so that a checkpoint falls between two rows."""
    monkeypatch.setattr("worker.training.trainer.ROWS", 8)
    return


class Run:
    """Short runs in this process, from a state or from nothing."""

    def __init__(self, case: Case, data_set: Path, folder: Path, training: dict[str, Any], learner: Any = None) -> None:
        self.case, self.folder, self.training = case, folder, training
        self.splits = load_splits(case, data_set, **training)
        self.learner = learner or self.build()
        self.new = snapshot(self.learner)
        self.after = self.at_epoch(self.learner)

    def at_epoch(self, learner: Any) -> Any:
        return at_epoch(self.case, learner, self.splits, self.folder, **self.training)

    def build(self) -> Any:
        return build(self.case, self.splits, **self.training)

    def go(
        self, restored: Restored | None, stops: dict[int, str] | None = None, learner: Any = None
    ) -> tuple[Any, NullReporter]:
        """With the learner of all its runs, to save building one each (seconds in TensorFlow), or with a new one."""
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
        return self.go(None)[0]

    @cached_property
    def point(self) -> CheckpointRecord:
        """The checkpoint that a run leaves when it is paused."""
        _, reporter = self.go(None, {SAVED_AT: "pause"})
        frame = next(f for f in reporter.frames if isinstance(f, CheckpointRecord) and f.step == SAVED_AT)
        return frame

    @cached_property
    def _restored(self) -> Restored:
        restored, damaged = restore(self.folder, [self.point])
        assert restored is not None
        assert not damaged
        return restored

    def restored(self) -> Restored:
        """A copy of its own: a run changes what it is given."""
        return deepcopy(self._restored)


def without(run: Run, item: str) -> Restored | None:
    """The checkpoint with one item as a new run has it; None where that is what was saved."""
    kind, _, name = item.partition(":")
    again, fresh = run.restored(), run.new
    if kind == "run":
        new = RunState()
        target: Any = again.run
        for part in name.split(".")[:-1]:
            target, new = getattr(target, part), getattr(new, part)
        last = name.rpartition(".")[2]
        if getattr(target, last) == getattr(new, last):
            return None
        setattr(target, last, getattr(new, last))
        return again
    arrays = dict(again.learner.arrays)
    old = arrays.pop(name)
    if name in fresh.arrays:
        if np.array_equal(old, fresh.arrays[name]):
            return None
        arrays[name] = fresh.arrays[name]
    return replace(again, learner=LearnerState(arrays, again.learner.facts))


RUN_ITEMS = [
    f"run:{name}"
    for name in (
        "step", "row_step", "epoch_sums", "epoch_steps", "history", "best.value", "best.step", "best.stale",
        "best.trained", "best.weights",
    )
]  # fmt: skip
#: Of a run without a non-finite loss: says that there was none, as a new run does.
SAME_AS_NEW = {"learner:bad"}


@pytest.mark.slow
@pytest.mark.usefixtures("few_rows")
def test_no_item_of_the_saved_state_may_be_dropped(case: Case, data_set: Path, tmp_path: Path) -> None:
    improving = Run(case, data_set, tmp_path / "improving", short(case, IMPROVING))
    learned = [f"learner:{name}" for name in improving.restored().learner.arrays]
    # The loop's own state is the same in both frameworks.
    items = learned + RUN_ITEMS if case.framework == "torch" else one_of_each(learned)
    resumed, _ = improving.go(improving.restored(), learner=improving.build())
    assert resumed == improving.untouched, "with a new learner"
    missed = unnoticed(improving, items)
    if missed:
        improving.learner.load_state(improving.new)
        stale = Run(case, data_set, tmp_path / "stale", short(case, STALE), improving.learner)
        missed = unnoticed(stale, missed)
    assert not missed, f"the run went on the same without {missed}"


def unnoticed(run: Run, items: list[str]) -> list[str]:
    """Those of `items` that can be missing from a checkpoint without anything at the end being different."""
    soon, _ = run.go(run.restored(), SOON)
    found = [item for item in items if not noticed(run, item, soon)]
    whole, _ = run.go(run.restored())
    assert whole == run.untouched, "the learner that was used for all of them remembers something"
    return found


def noticed(run: Run, item: str, soon: Any) -> bool:
    damaged = without(run, item)
    if damaged is None:
        return item in SAME_AS_NEW
    if differs(run, damaged, soon, SOON):
        return True
    again = without(run, item)
    return again is not None and differs(run, again, run.untouched, {})


def differs(run: Run, damaged: Restored, expected: Any, stops: dict[int, str]) -> bool:
    try:
        found, _ = run.go(damaged, stops)
    except Exception:
        return True
    return bool(found != expected)


def one_of_each(items: list[str]) -> list[str]:
    """By kind: the part of the name before the weight's, and the slot after it."""
    kinds = {(item.split("/")[0], item.split("/")[-1] if item.count("/") > 1 else ""): item for item in items}
    return list(kinds.values())


# -- asked to stop --------------------------------------------------------------------------------


def stopped(folder: Path) -> tuple[str, int]:
    """Why and at which step an attempt said that it stopped."""
    found = outcome(folder)
    assert found["type"] == "stopped"
    return found["reason"], found["step"]


@dataclass(frozen=True)
class Small:
    """A run of ninety steps, and what it leaves untouched."""

    spec: dict[str, Any]
    data_set: Path
    left: Left


@pytest.fixture(scope="module")
def small(data_sets: dict[Any, Path], tmp_path_factory: pytest.TempPathFactory) -> Small:
    case, folder = CASES["cnn-torch"], tmp_path_factory.mktemp("untouched")
    spec, data_set = case.spec(max_steps=90), data_sets[case.store]
    assert attempt(spec, folder, data_set) == 0
    return Small(spec, data_set, Left.of(folder))


def test_a_paused_run_goes_on_to_the_same_end(small: Small, tmp_path: Path) -> None:
    assert attempt(small.spec, tmp_path, small.data_set, stop_after=(38, "pause")) == 0
    assert stopped(tmp_path) == ("pause", 37)
    assert attempt(small.spec, tmp_path, small.data_set) == 0
    assert Left.of(tmp_path) == small.left


def test_a_damaged_checkpoint_is_passed_over_and_named(small: Small, tmp_path: Path) -> None:
    spec, data_set, folder = small.spec, small.data_set, tmp_path
    assert attempt(spec, folder, data_set, kill_after=80) == -9  # while the third was written, or soon after
    before, newest = sorted(checkpoints(folder), key=_step)[-2:]
    with (newest / "state.safetensors").open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    point = [
        CheckpointRecord(
            id=p.name, path=f"checkpoints/{p.name}", step=_step(p), sha256=p.name.split("-")[1], size_bytes=0
        )
        for p in sorted(checkpoints(folder), key=_step, reverse=True)
    ]
    restored, damaged = restore(folder, point)
    assert damaged == [newest.name]
    assert restored is not None
    assert restored.run.step == _step(before)
    assert attempt(spec, folder, data_set) == 0
    assert Left.of(folder) == small.left


@pytest.mark.slow
def test_finish_keeps_the_best_model_as_the_result(data_sets: dict[Any, Path], tmp_path: Path) -> None:
    case = CASES["cnn-torch"]
    data_set = data_sets[case.store]
    spec = case.spec(batch_size=16)
    assert attempt(spec, tmp_path / "job", data_set, stop_after=(100, "finish")) == 0
    result = outcome(tmp_path / "job")
    assert result["type"] == "result"
    assert result["step"] == 99
    newest = max(checkpoints(tmp_path / "job"), key=_step)
    best = {name: array for name, array in load_file(newest / "state.safetensors").items() if name.startswith("best/")}
    kept = load_file(tmp_path / "job" / "artifacts" / "model" / "model.safetensors")
    assert {f"best/{name}": array.tobytes() for name, array in kept.items()} == {
        name: array.tobytes() for name, array in best.items()
    }
    validated = json.loads((newest / "state.json").read_text())["run"]["best"]
    assert (validated["step"] < 99, result["metrics"]["val_loss"]) == (True, validated["value"])


def test_cancel_leaves_at_once_and_writes_nothing(data_sets: dict[Any, Path], tmp_path: Path) -> None:
    case = CASES["cnn-torch"]
    data_set = data_sets[case.store]
    assert attempt(case.spec(), tmp_path / "job", data_set, stop_after=(6, "cancel")) == 0
    assert stopped(tmp_path / "job") == ("cancel", 5)
    assert not checkpoints(tmp_path / "job")
    assert not (tmp_path / "job" / "artifacts").exists()
