"""Are the tests worth anything? Each promise's mechanism is broken on purpose, and a test must notice.

    python -m tests.faults.mutants [NAME …]

Each mutant is a copy of the tree with a line or two replaced; the tests named with it run there, after they have passed
in an untouched copy. Prints which test caught which. Exit code: how many were not caught.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

PARTS = ("api", "nightshift", "shared", "worker", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """`patches`: (file, what stands there once, what is put instead)."""

    name: str
    patches: tuple[tuple[str, str, str], ...]
    tests: str  # arguments for pytest


def one(name: str, file: str, old: str, new: str, tests: str) -> Mutant:
    return Mutant(name, ((file, old, new),), tests)


JOBS = "shared/jobs/transitions"
EFFECTS, ENDINGS, CLAIM = (
    "tests/unit/shared/jobs/transitions/test_effects.py",
    "tests/unit/shared/jobs/transitions/test_endings.py",
    "tests/unit/shared/jobs/transitions/test_leasing.py",
)
FAILPOINTS, DAMAGED = "tests/faults/test_failpoints.py", "tests/faults/test_checkpoints_damaged.py"
FILES = "tests/unit/shared/job_files/test_checkpoint_files.py"

MUTANTS = [
    one(
        "no fence",
        f"{JOBS}/statements.py",
        "return and_(jobs.c.id == lease.job_id, jobs.c.fence == lease.fence, jobs.c.state == RUNNING)",
        "return and_(jobs.c.id == lease.job_id, jobs.c.state == RUNNING)",
        EFFECTS,
    ),
    one(
        "no fence and no look at the state (a stale attempt writes on)",
        f"{JOBS}/statements.py",
        "return and_(jobs.c.id == lease.job_id, jobs.c.fence == lease.fence, jobs.c.state == RUNNING)",
        "return and_(jobs.c.id == lease.job_id, jobs.c.finished_at.is_(None) | jobs.c.finished_at.is_not(None))",
        f"{FAILPOINTS} -k 'sqlite and frozen_until'",
    ),
    one(
        "no self-freeze",
        "worker/supervisor/runner_monitor.py",
        "overdue = now >= self._suspend_due()",
        "overdue = False",
        "tests/faults/test_database_away.py -k sqlite",
    ),
    one("no fsync", "shared/job_files/checkpoint_files.py", "        os.fsync(file.fileno())\n", "", FILES),
    one(
        "rename before write",
        "shared/job_files/checkpoint_files.py",
        '        failpoint("checkpoint.tmp_written")\n        aside.rename(parent / f"{step}-{sha256}")\n',
        "        kept = {path.name: path.read_bytes() for path in aside.iterdir()}\n"
        "        [path.unlink() for path in aside.iterdir()]\n"
        '        aside.rename(parent / f"{step}-{sha256}")\n'
        '        aside = parent / f"{step}-{sha256}"\n'
        '        failpoint("checkpoint.tmp_written")\n'
        "        [(aside / name).write_bytes(data) for name, data in kept.items()]\n",
        FILES,
    ),
    one(
        "a tick is not unique",
        "shared/schedules/transitions.py",
        "    if not _insert_tick(conn, schedule.id, due_at, manual=False):\n        return None\n",
        "    _insert_tick(conn, schedule.id, due_at, manual=False)\n",
        "tests/unit/shared/schedules/test_transitions.py -k 'race or decided'",
    ),
    Mutant(
        "acknowledged before the commit",
        (
            (
                "api/services/group_commit.py",
                "                outcomes = [_try(conn, new) for new, _ in group]\n",
                "                outcomes = [_try(conn, new) for new, _ in group]\n"
                "                _set_results(group, outcomes)\n",
            ),
            ("api/services/group_commit.py", "        future.set_exception(error)\n",
                "        future.done() or future.set_exception(error)\n"),
            ("api/services/group_commit.py", "        else:\n            _set_results(group, outcomes)\n", ""),
        ),
        "tests/integration/test_api_group_commit.py",
    ),
    one(
        "the worker's clock for leases",
        f"{JOBS}/statements.py",
        ".values(lease_until=db_now() + lease.seconds, **values)",
        ".values(lease_until=__import__('time').time() + lease.seconds, **values)",
        EFFECTS,
    ),
    one(
        "deferred BEGIN",
        "shared/db/engine.py",
        '"BEGIN IMMEDIATE" if conn.get_execution_options().get(_WRITE) else "BEGIN"',
        '"BEGIN"',
        "tests/unit/shared/db/test_engine.py",
    ),
    one(
        "random draws go on where the process stands",
        "worker/training/numerics/data_order.py",
        '    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}"',
        '    step = globals()["_drawn"] = globals().get("_drawn", 0) + 1\n'
        '    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}"',
        "tests/unit/worker/training/numerics/test_data_order.py",
    ),
    one(
        "optimizer not saved",
        "worker/training/backends/torch_support.py",
        "        if isinstance(value, Tensor)\n    }\n",
        "        if isinstance(value, Tensor) and slot != 'exp_avg_sq'\n    }\n",
        "tests/conformance/test_learner_state.py -k 'cnn-torch and bit_for_bit'",
    ),
    one(
        "lost_streak is not set back",
        f"{JOBS}/effects.py",
        "checkpoint_id=checkpoint.id, lost_streak=0)",
        "checkpoint_id=checkpoint.id)",
        f"{EFFECTS} {ENDINGS}",
    ),
    Mutant(
        "only the leader of a group is killed",
        (
            ("worker/runners/forkserver.py", "os.killpg(child.pid, number)", "os.kill(child.pid, number)"),
            ("worker/runners/forkserver.py", "            os.killpg(child.pid, signal.SIGKILL)  # before",
                "            pass  # before"),
            ("worker/runners/forkserver.py", "        _kill_orphans(self._children)\n", ""),
        ),
        "tests/integration/test_attempts.py -k grandchild",
    ),
    one(
        "no hash is compared when restoring",
        "shared/job_files/checkpoint_files.py",
        "    if found != sha256:",
        "    if not found:",
        DAMAGED,
    ),
    one(
        "damaged checkpoints are not quarantined",
        f"{JOBS}/leasing.py",
        '.values(state="quarantined")',
        '.values(state="ready")',
        DAMAGED,
    ),
    Mutant(
        "a doorbell is as good as a claim",
        (
            (f"{JOBS}/leasing.py", ".where(jobs.c.id == _first(claimer, front, chosen), jobs.c.state == QUEUED)",
                ".where(jobs.c.id == _first(claimer, front, chosen))"),
            ("shared/jobs/fronts.py", "and_(jobs.c.state == QUEUED, jobs.c.run_at <= now_once())",
                "jobs.c.run_at <= now_once()"),
        ),
        CLAIM,
    ),
    one(
        "success though cancel was asked",
        f"{JOBS}/endings.py",
        "        .where(owned_by(lease), not_cancelled)\n",
        "        .where(owned_by(lease))\n",
        ENDINGS,
    ),
    one(
        "a resumed attempt leaves what was written beyond its checkpoint",
        f"{JOBS}/leasing.py",
        "    if conn.execute(delete(metrics).where(metrics.c.job_id == job_id, beyond)).rowcount:\n"
        "        rebuild_summaries(conn, job_id)\n",
        "",
        EFFECTS,
    ),
    one(
        "superseded checkpoints are removed before their rows",
        "worker/supervisor/batch.py",
        "        on_commit(conn, partial(self._remove_folders, kept, gone))\n",
        "        self._remove_folders(kept, gone)\n",
        "tests/unit/worker/supervisor/test_batch.py",
    ),
    one(
        "a checkpoint is listed apart from its metrics",
        "worker/supervisor/batch.py",
        "    for checkpoint in batch.checkpoints:\n        status = transitions.commit_checkpoint(conn, lease, "
        "checkpoint)\n",
        "    for checkpoint in batch.checkpoints:\n        status = transitions.commit_checkpoint(conn, lease, "
        "checkpoint)\n"
        "        conn.commit() if not batch.metrics else conn.exec_driver_sql(\n"
        "            f\"DELETE FROM metrics WHERE job_id = '{lease.job_id}' AND step = {checkpoint.step}\"\n        "
        ")\n",
        f"{FAILPOINTS} -k 'sqlite and worker_killed'",
    ),
    one(
        "a renewed lease is rescued",
        f"{JOBS}/rescuing.py",
        "jobs.c.fence == seen_fence, jobs.c.lease_until < db_now())\n        .with_for_update",
        "jobs.c.fence == seen_fence)\n        .with_for_update",
        ENDINGS,
    ),
    one(
        "an ending frees no device",
        f"{JOBS}/statements.py",
        "    ledger.free(conn, job_id, fence)\n",
        "",
        f"{FAILPOINTS} -k 'sqlite and worker_killed and claim'",
    ),
    one(
        "an unexpected error ends the worker",
        "worker/supervisor/supervisor.py",
        "        except BaseException as unexpected:",
        "        except ZeroDivisionError as unexpected:",
        f"{FAILPOINTS} -k 'sqlite and worker_fails and claim'",
    ),
]  # fmt: skip


def make_tree(folder: Path, patches: Sequence[tuple[str, str, str]] = ()) -> None:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    for file, old, new in patches:
        path = folder / file
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{file} holds {text.count(old)} times: {old!r}")
        path.write_text(text.replace(old, new))


def run(folder: Path, tests: str) -> tuple[bool, str]:
    """(passed, the first test that failed or what pytest said last)."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTSHIFT_")}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp"]
    ended = subprocess.run(
        [*command, *shlex.split(tests)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    lines = [line for line in ended.stdout.splitlines() if line.strip()]
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
    return ended.returncode == 0, (failed or lines[-1:] or [ended.stderr[-200:]])[0]


def main(argv: Sequence[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not argv or any(word in mutant.name for word in argv)]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="nightshift-mutants-") as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        make_tree(whole)
        sound = {tests: run(whole, tests) for tests in {mutant.tests for mutant in chosen}}
        for number, mutant in enumerate(chosen):
            begun = time.monotonic()
            folder = Path(scratch) / str(number)
            folder.mkdir()
            make_tree(folder, mutant.patches)
            passed, what = run(folder, mutant.tests)
            caught = not passed and sound[mutant.tests][0]
            missed += not caught
            verdict = (
                what if caught else "NOT CAUGHT" if passed else f"its tests fail without it: {sound[mutant.tests][1]}"
            )
            print(f"{mutant.name:<70} {verdict}  ({time.monotonic() - begun:.0f} s)", flush=True)
            shutil.rmtree(folder)
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
