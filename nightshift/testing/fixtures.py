"""Fixtures of the checks. The repository's own tests replace some of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.families.learner import LearnerState, Splits
from nightshift.testing import seeds
from nightshift.testing.attempts import Left, outcome
from nightshift.testing.cases import Case, snapshot
from nightshift.testing.datasets import Store
from nightshift.testing.reasons import fail

#: Steps between two checkpoints.
CHECKPOINT_STEPS = 11
#: Steps of two learners side by side, and rows of each.
STEPS, ROWS = 6, 4


@pytest.fixture(scope="session")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    """Return the data set of a case; each is stored once."""
    root, stored = tmp_path_factory.mktemp("datasets"), dict[Store, Path]()

    def data_set(case: Case) -> Path:
        if case.store not in stored:
            stored[case.store] = case.store(root)
        return stored[case.store]

    return data_set


@pytest.fixture
def data_set(case: Case, data_sets: Callable[[Case], Path]) -> Path:
    """Return the folder of the case's data set."""
    return data_sets(case)


@pytest.fixture
def kills(case: Case) -> int:
    """How often a run is killed."""
    return 3


@dataclass(frozen=True)
class Untouched:
    """A run that nothing disturbed."""

    spec: dict[str, Any]
    folder: Path
    steps: int
    left: Left

    @property
    def model(self) -> Path:
        return self.folder / "artifacts" / "model"


@pytest.fixture(scope="session")
def untouched_runs(
    data_sets: Callable[[Case], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Case], Untouched]:
    """Return the untouched run of a case; each is run once."""
    root, done = tmp_path_factory.mktemp("untouched"), dict[str, Untouched]()

    def run(case: Case) -> Untouched:
        key = json.dumps(case.spec(), sort_keys=True)
        if key not in done:
            done[key] = _untouched(case, data_sets(case), root / f"{case}-{len(done)}")
        return done[key]

    return run


def _untouched(case: Case, data_set: Path, folder: Path) -> Untouched:
    spec = case.spec()
    spec["checkpoint"]["every_steps"] = CHECKPOINT_STEPS
    if case.attempt(spec, folder, data_set, watched=True) != 0:
        fail(f"a run of its trial fails: see what it printed\n{_output(folder)}")
    return Untouched(spec, folder, int(outcome(folder)["step"]), Left.of(folder))


def _output(folder: Path) -> str:
    path = folder / "output.txt"
    return path.read_text(errors="replace")[-3000:] if path.exists() else ""


@pytest.fixture
def untouched(case: Case, untouched_runs: Callable[[Case], Untouched]) -> Untouched:
    """Return the untouched run of the case."""
    return untouched_runs(case)


@pytest.fixture
def also_checked() -> Callable[[Case, Left, Path], None]:
    """Return what is checked of a run that was killed beside that it is equal."""
    return lambda case, left, data_set: None


@pytest.fixture
def chosen_items(case: Case) -> Callable[[list[str]], list[str]]:
    """Return which items of a saved state are dropped: all."""
    return lambda items: items


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a row every six steps, so that a checkpoint falls between two rows."""
    monkeypatch.setattr("worker.training.trainer.ROWS", 8)


@pytest.fixture
def seed() -> int:
    """Return the seed of what is drawn at random; it is printed."""
    found = seeds.seed()
    print(f"seed {found}")
    return found


# -- learners in this process -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def splits(case: Case, data_sets: Callable[[Case], Path]) -> Splits:
    """Return the data of the case."""
    return case.load_splits(data_sets(case))


@dataclass
class Twins:
    """Two learners of equal seeds, trained for the same steps: building one takes TensorFlow two seconds."""

    one: Any
    other: Any
    new: LearnerState
    #: After the training, of the one and of the other.
    ended: LearnerState
    also: LearnerState

    def back(self, state: LearnerState) -> tuple[Any, Any]:
        """Return both in a state."""
        for learner in (self.one, self.other):
            learner.load_state(state)
        return self.one, self.other


@pytest.fixture(scope="module")
def twins(case: Case, splits: Splits) -> Twins:
    """Return two learners of the case."""
    one = case.build(splits)
    new = snapshot(one)
    train(one, splits)
    other = train(case.build(splits), splits)
    return Twins(one, other, new, snapshot(one), snapshot(other))


@pytest.fixture
def learner(twins: Twins) -> Any:
    """Return one that has learned for `STEPS`."""
    return twins.back(twins.ended)[0]


def train(learner: Any, splits: Splits, steps: int = STEPS, first: int = 0) -> Any:
    """Train on other rows in each step, and return the learner."""
    learner.set_data(splits.train)
    for step in range(first, steps):
        learner.train_step(np.arange(ROWS) + ROWS * step, step)
    return learner


@dataclass
class Pair:
    """Two learners of one case with their state at the beginning: building one in TensorFlow takes two seconds."""

    one: Any
    other: Any
    begin: LearnerState
    #: The rows trained on, and the rows that are evaluated.
    length: int
    held_out: dict[str, Any]

    @classmethod
    def of(cls, one: Any, other: Any, length: int, held_out: dict[str, Any]) -> Pair:
        """Return two new learners that have their data."""
        return cls(one, other, snapshot(one), length, held_out)

    def begun(self) -> tuple[Any, Any]:
        """Return both as if they had not learned anything."""
        for one in (self.one, self.other):
            one.load_state(self.begin)
        return self.one, self.other

    def go(self, learner: Any, first: int, last: int) -> None:
        """Run some steps."""
        for step in range(first, last):
            learner.train_step(np.random.default_rng(step).permutation(self.length)[:8], step)


@pytest.fixture(scope="module")
def pair(twins: Twins, splits: Splits) -> Pair:
    """Return the same two learners, for steps on rows drawn at random."""
    twins.back(twins.new)
    return Pair.of(twins.one, twins.other, min(40, splits.length), held_out(splits))


def held_out(splits: Splits) -> dict[str, Any]:
    """Return some rows of the test part, else of the validation part."""
    found = splits.test if splits.test is not None else splits.validation
    return {name: rows[:90] for name, rows in (found or {}).items()}
