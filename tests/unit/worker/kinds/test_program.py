"""Jobs of kind `run`: a program in its own process, killed, stopped and resumed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import UnsupportedJob
from tests.support import warm
from tests.support.plugins import JUDGED, TRAINING, forget_modules, installed, write_package
from worker import kinds
from worker.run_job import PrintingReporter, make_assignment
from worker.runners.messages import ArtifactSaved, Champion, Result, Stopped


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "packages"
    installed(folder, monkeypatch)
    yield write_package(folder)
    forget_modules()


def spec(**params: Any) -> dict[str, Any]:
    checkpoint = {"every_steps": 4, "every_seconds": None}
    return {"kind": "run", "program": "walk", "params": {"steps": 20, **params}, "checkpoint": checkpoint, "seed": 7}


class Reporter(PrintingReporter):
    """Asks for a stop at a step, and keeps the log."""

    def __init__(self, folder: Path, stop: str | None = None, at: int = 0) -> None:
        super().__init__(folder, keep_last=100, keep_best=True)
        self.stop, self.at, self.logged, self.announced = stop, at, list[str](), list[str]()

    def metrics(self, points: Any) -> None:
        super().metrics(points)
        if points[-1].step == self.at:
            self.stop_reason = self.stop

    def artifact(self, frame: ArtifactSaved) -> None:
        super().artifact(frame)
        self.announced.append(frame.path)

    def log(self, message: str, level: str = "info") -> None:
        self.logged.append(message)


def run(folder: Path, body: dict[str, Any], stop: str | None = None, at: int = 0) -> tuple[Any, Reporter]:
    assignment = make_assignment(body, folder, folder, 1)
    reporter = Reporter(folder, stop, at)
    return kinds.run(assignment, reporter), reporter


def rows(folder: Path) -> list[str]:
    return sorted((folder / "metrics.jsonl").read_text().splitlines())


def place(folder: Path) -> Any:
    return np.load(folder / "artifacts" / "model" / "place.npy")


def test_a_program_leaves_metrics_checkpoints_and_a_model(packages: Path, tmp_path: Path) -> None:
    ended, reporter = run(tmp_path / "job", spec())
    assert isinstance(ended, Result)
    assert ended.model == {"family": "walk", "framework": "", "path": "model"}
    assert list(ended.metrics) == ["test_loss"]
    assert ended.step == 20
    assert len(rows(tmp_path / "job")) == 20
    assert sorted(point.step for point in reporter.kept.values()) == [4, 8, 12, 16, 20]
    assert reporter.logged == ["program walk, from the beginning"]


def test_a_killed_program_ends_like_an_untouched_one(packages: Path, tmp_path: Path) -> None:
    run(tmp_path / "whole", spec())
    body = spec(killed_at=10, marker=str(tmp_path / "marker"))
    process = warm.Process("lone worker", target=_run_in_a_process, args=(str(packages), tmp_path / "killed", body))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    ended, reporter = run(tmp_path / "killed", body)
    assert isinstance(ended, Result)
    assert reporter.logged == ["program walk, from the checkpoint of step 8"]
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert place(tmp_path / "killed").tobytes() == place(tmp_path / "whole").tobytes()


def _run_in_a_process(packages: str, folder: Path, body: dict[str, Any]) -> None:
    import sys

    sys.path.insert(0, packages)
    run(folder, body)


@pytest.mark.parametrize("reason", ["pause", "drain", "preempt"])
def test_a_stopped_program_goes_on_where_it_saved(packages: Path, tmp_path: Path, reason: str) -> None:
    run(tmp_path / "whole", spec())
    ended, _ = run(tmp_path / "job", spec(), reason, at=6)
    assert ended == Stopped(reason=reason, step=6)
    ended, reporter = run(tmp_path / "job", spec())
    assert reporter.logged == ["program walk, from the checkpoint of step 6"]
    assert rows(tmp_path / "job") == rows(tmp_path / "whole")


def test_finish_keeps_the_model_so_far(packages: Path, tmp_path: Path) -> None:
    ended, _ = run(tmp_path / "job", spec(), "finish", at=6)
    assert isinstance(ended, Result)
    assert (ended.step, ended.model and ended.model["path"]) == (6, "model")


def test_a_stop_that_the_program_was_never_told_of_is_no_stop(packages: Path, tmp_path: Path) -> None:
    write_package(packages, training="def train(run):\n    run.log({'loss': 1.0}, 1)\n")
    forget_modules()
    ended, _ = run(tmp_path / "job", spec(), "pause", at=1)
    assert isinstance(ended, Result)
    assert (ended.model, ended.metrics) == (None, {"loss": 1.0})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("run.log({'loss': float('nan')}, 1)", "loss is nan at step 1"),
        ("run.log({'loss': 'high'}, 1)", "loss is 'high' at step 1; a metric must be a number"),
        ("run.log({'x' * 65: 1.0}, 1)", "the name of a metric is a text of 1 to 64"),
        ("run.log({'': 1.0}, 1)", "the name of a metric"),
        ("run.log({'a\\0b': 1.0}, 1)", "the name of a metric"),
        ("run.log({3: 1.0}, 1)", "the name of a metric"),
        ("run.log({str(n): 1.0 for n in range(1001)}, 1)", "at most 1,000 at once"),
        ("run.log({'loss': 1.0}, 1.5)", "a step must be an integer, not 1.5"),
        ("run.log({'loss': 1.0}, -1)", "a step must be between 0 and"),
        ("run.progress(2**60)", "a step must be between 0 and"),
        ("run.register(run.scratch, {'loss': float('inf')})", "loss is inf; metrics must be finite"),
        ("run.artifact(run.scratch, 'x' * 300)", "an artifact needs printable names"),
        ("run.artifact(run.scratch, '/'.join(['x' * 100] * 3))", "at most 200 characters"),
        ("run.artifact(run.scratch, 'a\\nb')", "an artifact needs printable names"),
        ("run.save(1, files={'x' * 201: b''})", "at most 200 bytes"),
        ("run.save(1, files={'a\\0b': b''})", "needs a plain name"),
        ("run.save(1, files={'': b''})", "needs a plain name"),
        ("run.save(1, files={'a/b': b''})", "needs a plain name"),
        ("run.save(0, facts={})", "a step of at least 1"),
        ("run.save(1, files={'../evil': b''})", "needs a plain name"),
        ("run.save(1, files={'program.json': b''})", "needs a plain name"),
        ("run.artifact(run.scratch, '../outside')", "below its folder"),
    ],
)
def test_wrong_calls_say_what_is_wrong(packages: Path, tmp_path: Path, call: str, message: str) -> None:
    write_package(packages, training=f"def train(run):\n    {call}\n")
    forget_modules()
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "job", spec())


def test_numbers_of_libraries_are_numbers(packages: Path, tmp_path: Path) -> None:
    lines = ("import numpy as np", "run.log({'loss': np.float32(0.5)}, np.int64(3))", "run.save(np.int32(3), facts={})")
    write_package(packages, training="def train(run):\n" + "".join(f"    {line}\n" for line in lines))
    forget_modules()
    ended, reporter = run(tmp_path / "job", spec())
    assert isinstance(ended, Result)
    assert ended.metrics == {"loss": 0.5}
    assert [point.step for point in reporter.kept.values()] == [3]


def test_files_and_folders_become_artifacts(packages: Path, tmp_path: Path) -> None:
    lines = [
        "(run.scratch / 'plots').mkdir()",
        "(run.scratch / 'plots' / 'a.txt').write_text('a')",
        "run.artifact(run.scratch / 'plots')",
        "run.artifact(run.scratch / 'plots' / 'a.txt', 'deep/b.txt')",
        "run.save(1, files={'from_file': run.scratch / 'plots' / 'a.txt', 'empty': b''})",
    ]
    write_package(packages, training="def train(run):\n" + "".join(f"    {line}\n" for line in lines))
    forget_modules()
    run(tmp_path / "job", spec())
    root = tmp_path / "job" / "artifacts"
    assert (root / "plots" / "a.txt").read_text() == (root / "deep" / "b.txt").read_text() == "a"
    (saved,) = (tmp_path / "job" / "checkpoints").iterdir()
    assert (saved / "from_file").read_text() == "a"
    assert json.loads((saved / "program.json").read_text())["facts"] == {}


TWICE = """
def train(run):
    for name in ("first.txt", "second.txt"):
        folder = run.scratch / name
        folder.mkdir()
        (folder / name).write_text(name)
        run.register(folder, {"test_loss": 1.0})
"""


def test_only_the_model_that_was_registered_last_is_listed(packages: Path, tmp_path: Path) -> None:
    write_package(packages, training=TWICE)
    forget_modules()
    ended, reporter = run(tmp_path / "job", spec())
    assert isinstance(ended, Result)
    assert [path for path in reporter.announced if path.startswith("model/")] == ["model/second.txt"]
    assert [path.name for path in (tmp_path / "job" / "artifacts" / "model").iterdir()] == ["second.txt"]


def test_a_checkpoint_keeps_a_folder_with_its_subfolders(packages: Path, tmp_path: Path) -> None:
    training = """
    def train(run):
        if saved := run.latest():
            found = {path.relative_to(saved.folder).as_posix() for path in saved.folder.rglob("*") if path.is_file()}
            assert found == {"program.json", "state/a.bin", "state/deep/b.bin", "state/deep/empty"}, found
            assert (saved.folder / "state" / "deep" / "b.bin").read_bytes() == b"b"
            return
        deep = run.scratch / "anywhere" / "deep"
        deep.mkdir(parents=True)
        (deep.parent / "a.bin").write_bytes(b"a")
        (deep / "b.bin").write_bytes(b"b")
        (deep / "empty").touch()
        run.save(1, files={"state": deep.parent})
        (deep / "b.bin").write_bytes(b"changed")
    """
    write_package(packages, training=training)
    forget_modules()
    _, reporter = run(tmp_path / "job", spec())
    (kept,) = reporter.kept.values()
    assert kept.size_bytes == 2 + (tmp_path / "job" / kept.path / "program.json").stat().st_size
    _, reporter = run(tmp_path / "job", spec())
    assert reporter.logged == ["program walk, from the checkpoint of step 1"]


def test_a_link_to_a_folder_is_refused_not_lost(packages: Path, tmp_path: Path) -> None:
    training = """
    def train(run):
        (run.scratch / "state").mkdir()
        (run.scratch / "state" / "link").symlink_to(run.scratch)
        run.save(1, files={"state": run.scratch / "state"})
    """
    write_package(packages, training=training)
    forget_modules()
    with pytest.raises(ValueError, match=r"no links to folders: .*state/link"):
        run(tmp_path / "job", spec())


def test_a_program_that_is_not_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedJob, match="no program walk: it is not installed"):
        run(tmp_path / "job", spec())


def test_a_damaged_checkpoint_is_passed_over(packages: Path, tmp_path: Path) -> None:
    run(tmp_path / "job", spec(), "pause", at=6)
    newest = max((tmp_path / "job" / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[0]))
    os.truncate(newest / "program.json", 3)
    _, reporter = run(tmp_path / "job", spec())
    assert "program walk, from the checkpoint of step 4" in reporter.logged
    assert TRAINING  # the untouched program


# -- promotion --------------------------------------------------------------------------------------


def judged_spec(**params: Any) -> dict[str, Any]:
    promote = {"metric": "distance", "evaluate_on": "digits@1", "min_improvement": 0.01}
    return {**spec(**params), "dataset": "digits@1", "register_as": "walks", "promote": promote}


@pytest.fixture
def judged(packages: Path) -> Path:
    write_package(packages, more=JUDGED)
    forget_modules()
    return packages


def compared(folder: Path, body: dict[str, Any], champion: Path | None = None, family: str = "walk") -> Any:
    reporter = Reporter(folder)
    reporter.champion_dir, reporter.champion_family = champion, family
    ended = kinds.run(make_assignment(body, folder, None, 1), reporter)
    assert isinstance(ended, Result)
    return ended.comparison


def test_both_models_are_measured_on_the_data_that_decides(judged: Path, tmp_path: Path) -> None:
    first = compared(tmp_path / "first", judged_spec())
    assert (first.version, first.better, first.reason) == (None, True, "no champion yet")
    model = tmp_path / "first" / "artifacts" / "model"
    here = float(np.load(model / "place.npy")[0])
    assert first.candidate == abs(here)
    same = compared(tmp_path / "same", judged_spec(), model)
    assert (same.better, same.champion) == (False, same.candidate)
    assert "not better" in same.reason
    other = compared(tmp_path / "other", judged_spec(steps=7), model)
    there = abs(float(np.load(tmp_path / "other" / "artifacts" / "model" / "place.npy")[0]))
    assert (other.candidate, other.champion, other.better) == (there, abs(here), abs(here) - there >= 0.01)


def test_the_champion_is_asked_for_again_while_it_changes(judged: Path, tmp_path: Path) -> None:
    compared(tmp_path / "first", judged_spec())
    model = tmp_path / "first" / "artifacts" / "model"

    class Changing(Reporter):
        asked = 0

        def champion(self) -> Champion:
            self.asked += 1
            return Champion(version=min(self.asked, 2), model_dir=str(model), family="walk")

    reporter = Changing(tmp_path / "job")
    ended = kinds.run(make_assignment(judged_spec(), tmp_path / "job", None, 1), reporter)
    assert (ended.comparison.version, reporter.asked) == (2, 3)


@pytest.mark.parametrize(
    ("evaluate", "reason"),
    [
        ("raise ValueError('no rows')", "cannot be judged on digits@1: ValueError: no rows"),
        ("return {'other': 1.0}", "returned no distance; it returned other"),
        ("return {}", "it returned nothing"),
        ("return 3", "cannot be judged on digits@1: TypeError"),
        ("run.log({'loss': 1.0}, 1)", "cannot call run.log"),
        ("run.save(1)", "cannot call run.save"),
        ("return {'distance': float('nan')}", "distance is nan on digits@1"),
    ],
)
def test_an_evaluation_that_fails_promotes_nothing_and_keeps_the_model(
    judged: Path, tmp_path: Path, evaluate: str, reason: str
) -> None:
    training = TRAINING.partition("def evaluate")[0] + f"def evaluate(run, model):\n    {evaluate}\n"
    write_package(judged, more=JUDGED, training=training)
    forget_modules()
    found = compared(tmp_path / "job", judged_spec())
    assert not found.better
    assert reason in found.reason
    assert (tmp_path / "job" / "artifacts" / "model" / "place.npy").exists()


def test_a_champion_of_another_program_is_not_compared(judged: Path, tmp_path: Path) -> None:
    compared(tmp_path / "first", judged_spec())
    found = compared(tmp_path / "job", judged_spec(), tmp_path / "first" / "artifacts" / "model", "stroll")
    assert not found.better
    assert "it is a stroll, the new one a walk" in found.reason
    gone = compared(tmp_path / "again", judged_spec(), tmp_path / "nowhere")
    assert "cannot be compared with version 1 on digits@1: FileNotFoundError" in gone.reason


def test_a_job_that_is_to_register_a_model_and_makes_none_says_so(packages: Path, tmp_path: Path) -> None:
    write_package(packages, training="def train(run):\n    run.log({'loss': 1.0}, 1)\n")
    forget_modules()
    ended, reporter = run(tmp_path / "job", {**spec(), "register_as": "walks"})
    assert ended.model is None
    assert "the program has registered no model, so walks gets no version" in reporter.logged
