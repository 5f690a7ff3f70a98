"""Checkpoints on disk: complete or not there, whatever happens at any step of writing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from safetensors.numpy import load_file

from nightshift.families.learner import LearnerState
from nightshift.testing.attempts import NullReporter
from shared import failpoints
from shared.errors import CorruptCheckpoint
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.checkpoint_retention import superseded
from shared.specs.training import CheckpointPolicy
from tests.support.factories import make_checkpoint
from worker.training.checkpoints import CheckpointSchedule, CheckpointWriter, Snapshot, restore, run_facts, safetensors
from worker.training.state import Best, RunState

CONTENT = {"b.bin": [b"one", b"two"], "a.json": [b"{}"]}


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def write(job_dir: Path, step: int = 5) -> CheckpointRecord:
    return checkpoint_files.write(job_dir, step=step, fence=2, files=CONTENT)


def names(job_dir: Path) -> list[str]:
    return sorted(path.name for path in (job_dir / checkpoint_files.FOLDER).glob("*"))


def test_a_checkpoint_is_named_by_step_and_hash(tmp_path: Path) -> None:
    written = write(tmp_path)
    assert written.path == f"checkpoints/5-{written.sha256}"
    assert written.size_bytes == 8
    assert (tmp_path / written.path / "b.bin").read_bytes() == b"onetwo"
    assert names(tmp_path) == [f"5-{written.sha256}"]
    checkpoint_files.verify(tmp_path / written.path, written.sha256)


def truncate(folder: Path) -> None:
    (folder / "b.bin").write_bytes(b"onetw")


def flip_a_bit(folder: Path) -> None:
    (folder / "b.bin").write_bytes(b"onetwn")


def rename_a_file(folder: Path) -> None:
    (folder / "b.bin").rename(folder / "c.bin")


def lose_a_file(folder: Path) -> None:
    (folder / "a.json").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "more").write_bytes(b"")


def move_bytes_between_files(folder: Path) -> None:
    (folder / "a.json").write_bytes(b"{}o")
    (folder / "b.bin").write_bytes(b"netwo")


def lose_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.mark.parametrize(
    "damage",
    [truncate, flip_a_bit, rename_a_file, lose_a_file, add_a_file, move_bytes_between_files, lose_all],
)
def test_any_damage_is_noticed(tmp_path: Path, damage: object) -> None:
    written = write(tmp_path)
    damage(tmp_path / written.path)  # type: ignore[operator]
    with pytest.raises(CorruptCheckpoint):
        checkpoint_files.verify(tmp_path / written.path, written.sha256)


@pytest.mark.parametrize("point", ["checkpoint.writing", "checkpoint.tmp_written"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, point: str) -> None:
    failpoints.arm(f"{point}:enospc")
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path)
    assert names(tmp_path) == []
    assert write(tmp_path).path.startswith("checkpoints/5-")


def test_every_byte_is_on_the_disk_before_the_name_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves a checkpoint that is complete, or none: the order is what promises it."""
    done: list[str] = []
    synced, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        synced(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append(f"sync {'aside' if path.name.startswith('.tmp-') else path.name}")

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"rename {sorted(file.name for file in path.iterdir())}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    write(tmp_path)
    assert done == ["sync a.json", "sync b.bin", "sync aside", "rename ['a.json', 'b.bin']", "sync checkpoints"]


def test_files_of_subfolders_are_hashed_and_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync_folder = checkpoint_files.fsync_folder
    monkeypatch.setattr(checkpoint_files, "fsync_folder", lambda path: (synced.append(path.name), fsync_folder(path)))
    files = {"a": [b"a"], "deep/b": [b"b"], "deep.d": [b"d"], "deep/er/c": [b"c"]}
    written = checkpoint_files.write(tmp_path, step=1, fence=1, files=files)
    folder = tmp_path / written.path
    assert list(checkpoint_files.files_below(folder)) == ["a", "deep.d", "deep/b", "deep/er/c"]
    assert {"deep", "er"} <= set(synced)
    checkpoint_files.verify(folder, written.sha256)
    (folder / "deep" / "er" / "c").rename(folder / "deep" / "c")
    with pytest.raises(CorruptCheckpoint):
        checkpoint_files.verify(folder, written.sha256)


def test_what_earlier_attempts_left_half_written_is_swept(tmp_path: Path) -> None:
    kept = write(tmp_path)
    for fence in (1, 2, 3):
        (tmp_path / checkpoint_files.FOLDER / f".tmp-{fence}-abc").mkdir()
    assert checkpoint_files.sweep(tmp_path, fence=3) == 2
    assert names(tmp_path) == [".tmp-3-abc", kept.path.removeprefix("checkpoints/")]


@pytest.mark.parametrize("path", ["../x", "checkpoints", "checkpoints/../../x", "/etc", "checkpoints/5-a/b"])
def test_only_checkpoints_are_removed(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="is not a checkpoint"):
        checkpoint_files.remove(tmp_path / "job", path)


def test_removing_twice_is_no_error(tmp_path: Path) -> None:
    written = write(tmp_path)
    checkpoint_files.remove(tmp_path, written.path)
    checkpoint_files.remove(tmp_path, written.path)
    assert names(tmp_path) == []


# -- retention ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep_last", "keep_best", "gone"),
    [(1, True, ["a", "c"]), (2, True, ["a"]), (2, False, ["b", "a"]), (4, True, []), (1, False, ["c", "b", "a"])],
)
def test_the_last_and_the_newest_best_are_kept(keep_last: int, keep_best: bool, gone: list[str]) -> None:
    all_four = [
        make_checkpoint(step, id=name, is_best=best)
        for name, step, best in (("a", 10, True), ("d", 40, False), ("b", 20, True), ("c", 30, False))
    ]
    assert sorted(superseded(all_four, keep_last=keep_last, keep_best=keep_best)) == sorted(gone)


# -- snapshots ------------------------------------------------------------------------------------


class Standing:
    """A learner that stands at one state."""

    arrays: ClassVar[dict[str, Any]] = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "step": np.array(3.0),
        "bad": np.array(False),
        "none": np.empty((0, 4), np.int64),
    }

    def state(self) -> LearnerState:
        return LearnerState(self.arrays, {"threads": 2})


LEARNER: Any = Standing()


def run_at(step: int = 7) -> RunState:
    run = RunState(step=step, best=Best(0.5, 3, 1), epoch_sums={"loss": 0.1 + 0.2}, epoch_steps=2)
    run.history = {"loss": [[1, 0.1], [2, 1 / 3]]}
    run.best.weights = {"w": np.ones((2, 2), np.float32)}
    return run


def save(job_dir: Path, *steps: int) -> tuple[list[CheckpointRecord], NullReporter]:
    reporter = NullReporter()
    writer = CheckpointWriter(job_dir, 4, reporter)
    for step in steps:
        writer.save(LEARNER, run_at(step), 1)
    writer.wait()
    return [frame for frame in reporter.frames if isinstance(frame, CheckpointRecord)][::-1], reporter


def test_a_snapshot_comes_back_to_the_bit(tmp_path: Path) -> None:
    points, _ = save(tmp_path, 7)
    restored, damaged = restore(tmp_path, points)
    assert restored is not None
    assert not damaged
    assert restored.threads == 2
    assert run_facts(restored.run) == run_facts(run_at())
    assert restored.run.best.weights is not None
    for name, array in Standing.arrays.items():
        found = restored.learner.arrays[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert np.array_equal(found, array)


def test_the_first_good_checkpoint_is_used_and_the_damaged_named(tmp_path: Path) -> None:
    points, _ = save(tmp_path, 10, 20, 30)
    (tmp_path / points[0].path / "state.json").write_text("{")
    checkpoint_files.remove(tmp_path, points[1].path)
    restored, damaged = restore(tmp_path, points)
    assert restored is not None
    assert restored.run.step == 10
    assert damaged == [points[0].id, points[1].id]
    assert restore(tmp_path, points[:2]) == (None, damaged)


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path: Path) -> None:
    failpoints.arm("checkpoint.writing:enospc")
    points, reporter = save(tmp_path, 10, 20)
    assert [point.step for point in points] == [20]
    assert next(frame for frame in reporter.frames if isinstance(frame, tuple))[0] == "error"


def test_the_snapshot_written_is_the_one_taken(tmp_path: Path) -> None:
    state = RunState(step=1, history={"loss": [[1, 0.5]]})
    taken = Snapshot.of(LEARNER, state, 1)
    state.history["loss"].append([2, 0.4])
    assert taken.run["history"] == {"loss": [[1, 0.5]]}


def test_our_safetensors_is_the_librarys(tmp_path: Path) -> None:
    arrays = {"a": np.arange(5, dtype=np.int64), "ü": np.array([[True], [False]]), "z": np.float64(2.5).reshape(())}
    (tmp_path / "x").write_bytes(b"".join(bytes(piece) for piece in safetensors(arrays)))
    found = load_file(tmp_path / "x")
    assert found.keys() == arrays.keys()
    assert all(
        np.array_equal(found[name], array) and found[name].shape == array.shape for name, array in arrays.items()
    )


def test_checkpoints_fall_due_by_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    due = CheckpointSchedule(CheckpointPolicy(every_steps=10, every_seconds=None), step=5)
    assert [due(step) for step in (5, 14, 15)] == [False, False, True]
    due.reset(15)
    assert not due(16)


def test_checkpoints_fall_due_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    due = CheckpointSchedule(CheckpointPolicy(every_seconds=60.0), step=0)
    assert not due(1_000_000)
    now[0] += 60
    assert due(1)
