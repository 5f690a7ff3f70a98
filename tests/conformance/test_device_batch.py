"""Whole jobs of batch inference on a pretended GPU, whose memory suffices for a few rows: every family and task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nightshift.testing.attempts import THREADS, NullReporter
from nightshift.testing.datasets import store_documents
from tests.support.kinds import Trained, infer, lines
from tests.support.training import CASES
from worker import kinds
from worker.kinds import base_model, batch_inference
from worker.run_job import make_assignment

pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Parents = Callable[[str], Trained]
#: Rows that the pretended GPU computes at a time, and at most.
FITS = 20
TASKS = [(name, task["task"]) for name, case in CASES.items() if case.framework == "torch" for task in case.inference]
DOCUMENTS = [b"the %d cats saw %d dogs\n" % (n % 7, n % 3) for n in range(60)]


class OutOfMemoryError(RuntimeError):
    """What torch raises if the memory of a device does not suffice."""


@dataclass
class Small:
    """A learner on the CPU that behaves as one on a small GPU."""

    learner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.learner, name)

    def predict(self, inputs: Any, batch_size: int) -> Any:
        self._take(min(len(inputs), batch_size))
        return self.learner.predict(inputs, batch_size)

    def generate(self, count: int, seed: int, batch_size: int, start: int = 0) -> Any:
        if count != 64:  # the grid that a GAN draws at the end
            self._take(min(count, batch_size))
        return self.learner.generate(count, seed, batch_size, start)

    def follow(self, windows: Any, state: Any) -> Any:
        self._take(len(windows))
        return self.learner.follow(windows, state)

    def read(self, tokens: Any, state: Any) -> Any:
        self._take(len(tokens))
        return self.learner.read(tokens, state)

    def _take(self, rows: int) -> None:
        if rows > FITS:
            raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {rows} GiB")


class NoGpu:
    """Memory of a GPU that is not there."""

    def begin(self) -> None: ...

    def taken(self) -> int:
        return 0

    def free(self) -> int:
        return 0

    def give_back(self) -> None: ...


@pytest.fixture
def on_a_small_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def built(parent: Any, framework: str, assignment: Any, threads: int | None) -> Any:
        on_cpu = assignment.model_copy(update={"device": "cpu"})
        return Small(base_model.build(parent, framework, on_cpu, threads))

    monkeypatch.setattr(batch_inference, "build", built)
    monkeypatch.setattr(batch_inference, "memory_of", lambda framework: NoGpu())


@pytest.mark.parametrize(("name", "task"), TASKS)
@pytest.mark.parametrize("batch_size", ["auto", 50])
@pytest.mark.usefixtures("on_a_small_gpu")
def test_a_batch_that_does_not_fit_is_halved_for_every_family(
    name: str, task: str, batch_size: int | str, parents: Parents, tmp_path: Path
) -> None:
    parent = parents(name)
    data_set = store_documents(tmp_path, DOCUMENTS) if task == "score" else parent.data_set
    (trial,) = [one for one in parent.case.inference if one["task"] == task]
    how: dict[str, Any] = {**trial, "engine": "framework", "output": "jsonl"}
    if how.get("prompts"):
        how |= {"prompts": ["the cat", "a dog", ""] * 10, "max_new_tokens": 4}
    halved = infer("torch", **{**how, "batch_size": batch_size})
    said = [line for line in run(parent, halved, data_set, tmp_path / "gpu", "gpu") if "out of memory" in line]
    assert said, "a batch has more rows than fit"
    fitting = infer("torch", **{**how, "batch_size": FITS})
    run(parent, fitting, data_set, tmp_path / "cpu", "cpu")
    found, wanted = (lines(tmp_path / one / "artifacts" / "predictions.jsonl") for one in ("gpu", "cpu"))
    assert len(found) == len(wanted) > FITS
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours == {key: value if isinstance(value, str) else near(value) for key, value in theirs.items()}


def near(value: Any) -> Any:
    """Return what equals numbers, lists of them and words, if they differ by rounding only."""
    if isinstance(value, list):
        return [near(one) for one in value]
    return pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value


def run(parent: Trained, spec: dict[str, Any], data_set: Path, folder: Path, device: Any) -> list[str]:
    """Run a job in this process and return the lines of its log."""
    reporter = NullReporter()
    assignment = make_assignment(spec, folder, data_set, THREADS, parent.model, device=device)
    kinds.run(assignment, reporter)  # type: ignore[arg-type]
    return [frame[1] for frame in reporter.frames if isinstance(frame, tuple)]
