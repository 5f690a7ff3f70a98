"""The probe: a job for all lifecycle tests that takes over jobs (`tests.support.takeover`), controlled by their tags.

    probe        `train` (below), `hold` (the job itself), or a way to end: see ENDINGS
    steps        number of steps of `train`
    checkpoint   steps between two checkpoints
    hold_at      step at which it waits for the file `go` in the job's folder (or for a stop request); of `hold`, the
                 step before which the first attempt leaves its pid there as `held` and waits to be killed
    wedge        instead of waiting there, the first attempt hangs: `spin` (an endless loop) or `stop` (SIGSTOP)
    pace         least seconds per step
    megabytes    output of `flood` on stdout and stderr
    scored       anything: the result has a `test_accuracy`, which the learning rate decides (`score`)
    unloadable   step whose checkpoint kills a runner that loads it
    failpoint    failpoint armed in the first attempt's runner (see `shared.failpoints`)

`train` computes a chain of hashes, one link per step, whose end is right only after an exact resume.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import itertools
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared import failpoints
from shared.errors import BadData, CorruptCheckpoint, NonFiniteLoss
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from worker.runners.messages import (
    ArtifactSaved,
    Assignment,
    Comparison,
    MetricPoint,
    Progress,
    Result,
    Started,
    Stopped,
)
from worker.training.reporter import Reporter


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped | None:
    tags = assignment.spec.get("tags", {})
    action = tags.get("probe")
    if action is None:
        return None
    if "failpoint" in tags and assignment.fence == 1:
        failpoints.arm(tags["failpoint"])
    if action == "hold":
        if assignment.fence == 1:
            hold(assignment, reporter, int(tags["hold_at"]))
        return None
    if action == "train":
        return Training(assignment, reporter, tags).run()
    reporter.started(Started(pid=os.getpid(), device="probe"))
    ENDINGS[action](assignment, reporter)
    return Result(metrics={"done": 1.0})


def hold(assignment: Assignment, reporter: Reporter, step: int) -> None:
    """Let a training wait before a step until its process is killed."""
    ask, asked = reporter.stop_requested, itertools.count()

    def held() -> str | None:
        if next(asked) == step:
            (file := Path(assignment.job_dir, "held.new")).write_text(str(os.getpid()))
            file.rename(file.with_suffix(""))
            while True:
                signal.pause()
        return ask()

    reporter.stop_requested = held  # type: ignore[method-assign]


def link(before: str, step: int) -> str:
    return hashlib.sha256(f"{before}{step}".encode()).hexdigest()


def chain(steps: int) -> str:
    """Return the end of the chain of an undisturbed run."""
    value = ""
    for step in range(1, steps + 1):
        value = link(value, step)
    return value


def loss(value: str) -> float:
    """Return the metric of a link."""
    return int(value[:8], 16) / 2**32


def losses(steps: int) -> dict[int, float]:
    """Return step -> loss of an undisturbed run."""
    value, found = "", {}
    for step in range(1, steps + 1):
        value = link(value, step)
        found[step] = loss(value)
    return found


def score(spec: dict[str, Any]) -> float:
    """Return the `test_accuracy` of a scored job: best where the learning rate is 0.01."""
    return 1.0 / (1.0 + abs(math.log10(spec["training"]["learning_rate"]) + 2.0))


class Training:
    def __init__(self, assignment: Assignment, reporter: Reporter, tags: dict[str, str]) -> None:
        self.job, self.work, self.reporter = Path(assignment.job_dir), Path(assignment.work_dir), reporter
        self.steps = int(tags.get("steps", 10))
        self.every = int(tags.get("checkpoint", 0))
        self.hold_at = int(tags.get("hold_at", 0))
        self.wedge = tags.get("wedge") if assignment.fence == 1 else None
        self.unloadable = int(tags.get("unloadable", 0))
        self.pace = float(tags.get("pace", 0))
        self.fence, self.resume = assignment.fence, assignment.resume
        self.registers = bool(assignment.spec.get("register_as"))
        self.promotes = bool(assignment.spec.get("promote"))
        self.measured = {"test_accuracy": score(assignment.spec)} if "scored" in tags else {}
        self.value, self.step = "", 0
        self.damaged: list[str] = []

    def run(self) -> Result | Stopped:
        resumed = self._load()
        self.reporter.started(
            Started(
                pid=os.getpid(),
                device="probe",
                resumed_from=resumed,
                resumed_step=self.step if resumed else None,
                quarantined=self.damaged,
                total_steps=self.steps,
            )
        )
        while self.step < self.steps:
            self._one_step()
            if self.step == self.hold_at:
                self._hold()
            reason = self.reporter.stop_requested()
            if reason == "finish":
                break
            if reason:
                if reason != "cancel":
                    self._save()
                return Stopped(reason=reason, step=self.step)
            if self.every and self.step % self.every == 0:
                self._save()
        return self._result()

    def _one_step(self) -> None:
        self.step += 1
        self.value = link(self.value, self.step)
        value = loss(self.value)
        if self.pace:
            time.sleep(self.pace)
        self.reporter.metrics([MetricPoint(name="loss", step=self.step, epoch=0, value=value)])
        self.reporter.progress(Progress(step=self.step, total_steps=self.steps, loss=value, at=time.time()))

    def _hold(self) -> None:
        if self.wedge == "stop":
            channel = getattr(self.reporter, "_channel")  # noqa: B009
            while channel._backlog_bytes:  # all frames must be sent before
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGSTOP)
        while self.wedge == "spin":
            continue
        self.reporter.phase("validate")  # a phase with a long stall limit
        while not (self.job / "go").exists() and not self.reporter.stop_requested():
            time.sleep(0.005)
        self.reporter.phase("train")

    def _load(self) -> str | None:
        checkpoint_files.sweep(self.job, fence=self.fence)
        for point in self.resume:
            try:
                checkpoint_files.verify(self.job / point.path, point.sha256)
            except CorruptCheckpoint:
                self.damaged.append(point.id)
                continue
            state = json.loads((self.job / point.path / "state.json").read_text())
            if state["step"] == self.unloadable:
                os.kill(os.getpid(), signal.SIGSEGV)
            self.step, self.value = state["step"], state["value"]
            return point.id
        return None

    def _save(self) -> None:
        state = json.dumps({"step": self.step, "value": self.value, "fence": self.fence}).encode()
        try:
            saved = checkpoint_files.write(self.job, step=self.step, fence=self.fence, files={"state.json": [state]})
        except OSError as error:
            self.reporter.log(f"the checkpoint of step {self.step} could not be written: {error}", "error")
            return
        self.reporter.checkpoint(saved)

    def _result(self) -> Result:
        folder = self.work / "artifacts"
        (folder / "chain.txt").write_text(self.value)
        sha = hashlib.sha256(self.value.encode()).hexdigest()
        self.reporter.artifact(
            ArtifactSaved(path="chain.txt", sha256=sha, size_bytes=len(self.value), media_type="text/plain")
        )
        model = {"family": "cnn", "framework": "torch", "path": "model"} if self.registers else None
        metrics = {"steps": float(self.step), **self.measured}
        return Result(metrics=metrics, model=model, step=self.step, comparison=self._compared())

    def _compared(self) -> Comparison | None:
        """With `promote`, return that it is better than the champion."""
        if not self.promotes:
            return None
        version = self.reporter.champion().version
        return Comparison(version=version, candidate=0.9, champion=version and 0.8, better=True, reason="a probe")


# -- ways to end ------------------------------------------------------------------------------------


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("neither to be pickled nor printed")
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("no")


def _raise(error: Callable[[], BaseException]) -> Callable[..., None]:
    def raise_error(*_: Any) -> None:
        raise error()

    return raise_error


def _segfault(*_: Any) -> None:
    ctypes.string_at(0)


def _sleep_for_ever(*_: Any) -> None:
    while True:
        time.sleep(60)


def _ignore_everything(*_: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _grandchildren()
    _sleep_for_ever()


def _grandchildren(*_: Any) -> None:
    """Fork a child in the process group and an orphan outside; their pids are files in the work folder."""
    here = Path("family")
    here.mkdir(exist_ok=True)
    for leaves in (False, True):
        if os.fork() == 0:
            if leaves:
                os.setsid()
                if os.fork() != 0:
                    os._exit(0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (here / str(os.getpid())).touch()
            _sleep_for_ever()
    while len(list(here.iterdir())) < 2:
        time.sleep(0.01)


def _flood(assignment: Assignment, reporter: Reporter) -> None:
    reporter.log("before the flood")
    block = ("x" * 99 + "\n") * 10_000
    for number in range(int(assignment.spec["tags"].get("megabytes", 50))):
        (sys.stderr if number % 2 else sys.stdout).write(block)
    sys.stdout.flush()


def _print(_: Any, reporter: Reporter) -> None:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    reporter.log("to the log", "warning")


def _not_a_frame(_: Any, reporter: Any) -> None:
    reporter._channel._sock.sendall(b"{'this': is no frame}\n")
    _sleep_for_ever()


def _endless_frame(_: Any, reporter: Any) -> None:
    while True:
        reporter._channel._sock.sendall(b"x" * 65_536)


def _not_a_number(_: Any, reporter: Reporter) -> None:
    reporter.metrics([MetricPoint(name="loss", step=1, epoch=0, value=1.0)])
    reporter.metrics([MetricPoint(name="loss", step=2, epoch=0, value=float("nan"))])
    _sleep_for_ever()


def _bad_path(_: Any, reporter: Any) -> None:
    saved = CheckpointRecord(id="a", path="checkpoints/1-a", step=1, sha256="0" * 64, size_bytes=1)
    reporter.checkpoint(saved.model_copy(update={"path": "../../../etc"}))
    _sleep_for_ever()


def _unwritable(_: Any, reporter: Reporter) -> None:
    reporter.metrics([MetricPoint(name="loss", step=2**70, epoch=0, value=1.0)])


def _fault(assignment: Assignment) -> None:
    """Fail as the first attempt of a job whose device fails."""
    if assignment.fence == 1:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _full_disk(assignment: Assignment) -> None:
    """Fail as the first attempt of a job on a host whose disk is full."""
    if assignment.fence == 1:
        raise OSError(errno.ENOSPC, "No space left on device")


ENDINGS: dict[str, Callable[[Any, Any], None]] = {
    "typed": _raise(lambda: BadData("row 7 is empty")),
    "not_finite": _raise(lambda: NonFiniteLoss(3, float("inf"))),
    "device_fault": lambda assignment, _: _fault(assignment),
    "full_disk": lambda assignment, _: _full_disk(assignment),
    "device_abort": lambda assignment, _: os.abort() if assignment.fence == 1 else None,
    "untyped": _raise(lambda: ZeroDivisionError("division by zero")),
    "unpicklable": _raise(Unpicklable),
    "system_exit": _raise(lambda: SystemExit(3)),
    "memory_error": _raise(MemoryError),
    "allocate": lambda *_: _hoard(),
    "exit": lambda *_: os._exit(7),
    "segfault": _segfault,
    "killed": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
    "sleep": _sleep_for_ever,
    "ignore": _ignore_everything,
    "grandchildren": _grandchildren,
    "flood": _flood,
    "print": _print,
    "not_a_frame": _not_a_frame,
    "endless_frame": _endless_frame,
    "not_a_number": _not_a_number,
    "bad_path": _bad_path,
    "unwritable": _unwritable,
}


def _hoard() -> None:
    kept = []
    while True:
        kept.append(bytearray(64 << 20))
