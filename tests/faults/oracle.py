"""What must be true of the database and the files after any faults, once every job has come to rest.

A function of what lies there, not of what was done: `violations` reads all rows and files and names each broken
promise. What a probe job must leave behind is known beforehand (`tests.support.probe`), so its rows are compared one by
one.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine, select

from nightshift.states import JobState
from shared.db import schema
from shared.db.engine import read
from shared.errors import CorruptCheckpoint
from shared.job_files import checkpoint_files
from shared.job_files.layout import job_dir
from tests.support import probe

#: How long the processes of a job may outlive its end (seconds): G9.
GONE_WITHIN = 30.0

_BY_JOB = ("attempts", "job_events", "job_logs", "metrics", "checkpoints", "artifacts")
_OTHERS = ("jobs", "schedule_ticks", "model_versions", "devices", "sweeps", "sweep_trials")


@dataclass(frozen=True)
class Facts:
    """Everything there is, read once."""

    root: Path
    accepted: frozenset[str]
    jobs: dict[str, Any]
    of: dict[str, dict[str, list[Any]]] = field(repr=False)  # table -> job -> rows
    ticks: list[Any] = field(repr=False)
    models: list[Any] = field(repr=False)
    devices: list[Any] = field(default_factory=list, repr=False)
    sweeps: list[Any] = field(default_factory=list, repr=False)
    trials: list[Any] = field(default_factory=list, repr=False)
    #: Where runners work: the folder of jobs that the processes see.
    work: Path = Path("/")

    def rows(self, table: str, job_id: str) -> list[Any]:
        return self.of[table].get(job_id, [])


def assert_sound(engine: Engine, root: Path, accepted: Iterable[str]) -> None:
    """`accepted`: every id that a submission was answered with."""
    found = violations(engine, root, accepted)
    assert not found, "\n".join(found)


def violations(engine: Engine, root: Path, accepted: Iterable[str], work: Path | None = None) -> list[str]:
    """`root`: the storage, or a copy of a bucket; `work`: the folder of jobs on the hosts, if it is another."""
    facts = look(engine, root, accepted, work)
    return [f"{rule.__name__}: {broken}" for rule in RULES for broken in rule(facts)]


def evidence(engine: Engine, root: Path, found: Iterable[str]) -> str:
    """Return all rows of the jobs that are named in `found`; they help to find the cause."""
    facts, told = look(engine, root, ()), "\n".join(found)
    lines = [told]
    for job_id, job in facts.jobs.items():
        if job_id in told:
            rows = [row for table in _BY_JOB for row in facts.rows(table, job_id)]
            lines += ["", str(job._mapping), *(str(row._mapping) for row in rows)]
    return "\n".join(lines)


def look(engine: Engine, root: Path, accepted: Iterable[str], work: Path | None = None) -> Facts:
    with read(engine) as conn:
        rows = {
            name: list(conn.execute(select(table)))
            for name, table in schema.metadata.tables.items()
            if name in (*_BY_JOB, *_OTHERS)
        }
    of: dict[str, dict[str, list[Any]]] = {name: defaultdict(list) for name in _BY_JOB}
    for name in _BY_JOB:
        for row in rows[name]:
            of[name][row.job_id].append(row)
    jobs = {row.id: row for row in rows["jobs"]}
    others = (rows[name] for name in ("schedule_ticks", "model_versions", "devices", "sweeps", "sweep_trials"))
    work = root / "jobs" if work is None else work
    return Facts(root, frozenset(accepted), jobs, of, *others, work)


# -- the rules: each yields what breaks it ----------------------------------------------------------


def every_accepted_job_is_final(facts: Facts) -> Iterator[str]:
    for job_id in sorted(facts.accepted - facts.jobs.keys()):
        yield f"{job_id} was accepted and is not there"
    for job in facts.jobs.values():
        if not JobState(job.state).is_final or job.finished_at is None or job.lease_until is not None:
            yield f"{job.id} is {job.state}, finished_at {job.finished_at}, lease_until {job.lease_until}"


def at_most_one_attempt_succeeded(facts: Facts) -> Iterator[str]:
    """The last one, and it exactly if the job did; every attempt has its number and its end."""
    for job in facts.jobs.values():
        attempts = sorted(facts.rows("attempts", job.id), key=lambda row: row.fence)
        if [row.fence for row in attempts] != list(range(1, job.fence + 1)):
            yield f"{job.id} has attempts {[row.fence for row in attempts]}, its fence is {job.fence}"
        won = [row.fence for row in attempts if row.outcome == "succeeded"]
        if won != ([job.fence] if job.state == "succeeded" else []):
            yield f"{job.id} is {job.state}; attempts {won} of {job.fence} succeeded"
        if unfinished := [row.fence for row in attempts if row.outcome is None and job.state != "running"]:
            yield f"{job.id} is {job.state}; attempts {unfinished} have no outcome"


def commits_are_in_fence_order(facts: Facts) -> Iterator[str]:
    """Sequence numbers are drawn under the row lock, so their order is the order of commits."""
    for job in facts.jobs.values():
        commits = sorted(_commits(facts, job.id))
        for (before, fence, what), (after, later, other) in pairwise(commits):
            if before == after:
                yield f"{job.id}: {what} and {other} have the same number {after}"
            if later < fence:
                yield f"{job.id}: {other} of attempt {later} came after {what} of attempt {fence}"
        yield from _after_the_end(facts, job.id, commits)


def _commits(facts: Facts, job_id: str) -> Iterator[tuple[int, int, str]]:
    for row in facts.rows("job_events", job_id):
        yield row.seq, row.fence, f"event {row.type}"
    for row in facts.rows("job_logs", job_id):
        yield row.seq, row.fence, "a log line"
    for row in facts.rows("metrics", job_id):
        yield row.seq, row.fence, f"metric {row.name} at {row.step}"


_OF_AN_ATTEMPT = ("event checkpoint", "event artifact", "event attempt", "a log line", "metric ")


def _after_the_end(facts: Facts, job_id: str, commits: list[tuple[int, int, str]]) -> Iterator[str]:
    """Nothing of an attempt may follow the event that says how it ended."""
    ended = {
        row.fence: row.seq
        for row in facts.rows("job_events", job_id)
        if row.type == "state" and row.fence and row.data["state"] != "running"
    }
    for seq, fence, what in commits:
        if what.startswith(_OF_AN_ATTEMPT) and seq > ended.get(fence, seq):
            yield f"{job_id}: {what} of attempt {fence} came after its end"


def metrics_are_those_of_an_untouched_run(facts: Facts) -> Iterator[str]:
    for job in facts.jobs.values():
        steps = sorted(row.step for row in facts.rows("metrics", job.id) if row.name == "loss")
        if steps != list(range(1, len(steps) + 1)):
            yield f"{job.id} has rows of steps {_short(steps)}"
        wanted = _untouched(job)
        found = {row.step: row.value for row in facts.rows("metrics", job.id) if row.name == "loss"}
        if wanted is not None and any(wanted.get(step) != value for step, value in found.items()):
            yield f"{job.id} has other values than an untouched run"
        if (
            wanted is not None
            and job.state == "succeeded"
            and job.stop_requested is None
            and found.keys() != wanted.keys()
        ):
            yield f"{job.id} succeeded with {len(found)} rows of {len(wanted)}"


def _untouched(job: Any) -> dict[int, float] | None:
    tags = job.spec.get("tags", {})
    return probe.losses(int(tags.get("steps", 10))) if tags.get("probe") == "train" else None


def the_result_is_that_of_an_untouched_run(facts: Facts) -> Iterator[str]:
    for job in facts.jobs.values():
        tags = job.spec.get("tags", {})
        if tags.get("probe") != "train" or job.state != "succeeded" or job.stop_requested is not None:
            continue
        found = [row.sha256 for row in facts.rows("artifacts", job.id) if row.path == "chain.txt"]
        if found != [hashlib.sha256(probe.chain(int(tags.get("steps", 10))).encode()).hexdigest()]:
            yield f"{job.id} left {found}"


def listed_files_are_complete(facts: Facts) -> Iterator[str]:
    for job_id in facts.jobs:
        for row in facts.rows("checkpoints", job_id):
            if row.state == "ready":
                try:
                    checkpoint_files.verify(job_dir(facts.root, job_id) / row.path, row.sha256)
                except CorruptCheckpoint as corrupt:
                    yield f"{job_id}: {corrupt}"
        for row in facts.rows("artifacts", job_id):
            path = facts.root / row.stored_as
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != row.sha256:
                yield f"{job_id}: artifact {row.path} is not what is listed"


def nothing_half_written_is_listed(facts: Facts) -> Iterator[str]:
    for job in facts.jobs.values():
        rows = facts.rows("checkpoints", job.id)
        if wrong := [row.path for row in rows if ".tmp-" in row.path]:
            yield f"{job.id} lists {wrong}"
        if job.checkpoint_id and not any(row.id == job.checkpoint_id and row.state == "ready" for row in rows):
            yield f"{job.id} would go on from {job.checkpoint_id}, which is not ready"


def every_attempt_went_on_from_the_newest_good_checkpoint(facts: Facts) -> Iterator[str]:
    """So a death costs one checkpoint interval at most."""
    for job_id in facts.jobs:
        good = [row for row in facts.rows("checkpoints", job_id) if row.state != "quarantined"]
        begun = {row.fence for row in facts.rows("job_events", job_id) if row.type == "attempt"}
        for attempt in facts.rows("attempts", job_id):
            newest = max((row.step for row in good if row.fence < attempt.fence), default=0)
            if attempt.fence in begun and (attempt.resumed_step or 0) < newest:
                yield f"{job_id}: attempt {attempt.fence} began at {attempt.resumed_step}, there was one of {newest}"


def every_tick_has_one_job(facts: Facts) -> Iterator[str]:
    made = [tick.job_id for tick in facts.ticks if tick.job_id is not None]
    if len(made) != len(set(made)):
        yield "two ticks made the same job"
    if missing := set(made) - facts.jobs.keys():
        yield f"ticks made jobs that are not there: {sorted(missing)}"
    ticks = [(tick.schedule_id, tick.due_at) for tick in facts.ticks]
    if len(ticks) != len(set(ticks)):
        yield "a tick was taken twice"


def every_trial_has_one_job(facts: Facts) -> Iterator[str]:
    """Each number has one trial, each trial one job, and each job of a sweep its trial."""
    of_trials = [trial.job_id for trial in facts.trials]
    if len(of_trials) != len(set(of_trials)):
        yield "two trials have the same job"
    if missing := {job_id for job_id in of_trials if "/" not in job_id} - facts.jobs.keys():
        yield f"trials have jobs that are not there: {sorted(missing)}"
    for sweep in facts.sweeps:
        mine = {trial.number: trial.job_id for trial in facts.trials if trial.sweep_id == sweep.id}
        if sorted(mine) != list(range(sweep.started)):
            yield f"sweep {sweep.id} has started {sweep.started} trials and has {sorted(mine)}"
        made = {job.id for job in facts.jobs.values() if (job.pinned.get("sweep") or {}).get("id") == sweep.id}
        if lone := made - set(mine.values()):
            yield f"sweep {sweep.id} has jobs without a trial: {sorted(lone)}"


def every_sweep_is_final_with_its_best(facts: Facts) -> Iterator[str]:
    """It has all its trials, and each has what its job was measured with."""
    for sweep in facts.sweeps:
        mine = [trial for trial in facts.trials if trial.sweep_id == sweep.id]
        if sweep.finished_at is None or (sweep.state == "succeeded" and sweep.started != sweep.trials):
            yield f"sweep {sweep.id} is {sweep.state} with {sweep.started} of {sweep.trials} trials"
        for trial in mine:
            job = facts.jobs.get(trial.job_id)
            measured = ((job.result or {}).get("metrics") or {}).get(sweep.metric) if job is not None else None
            if trial.state == "running" or trial.value != measured:
                yield f"trial {trial.number} of {sweep.id} is {trial.state} with {trial.value}, its job has {measured}"
        sign = 1 if sweep.direction == "max" else -1
        ranked = sorted((-sign * trial.value, trial.number) for trial in mine if trial.value is not None)
        if sweep.best != (ranked[0][1] if ranked else None):
            yield f"the best of sweep {sweep.id} is said to be trial {sweep.best}, and is {ranked[:1]}"


def every_job_has_one_model_version(facts: Facts) -> Iterator[str]:
    by_job, by_name = defaultdict(list), defaultdict(list)
    for row in facts.models:
        by_job[row.job_id].append(row.version)
        by_name[row.name].append(row.version)
    for job in facts.jobs.values():
        made = job.state == "succeeded" and (job.result or {}).get("model") is not None
        wanted = int(made and bool(job.spec.get("register_as")))
        if len(by_job[job.id]) != wanted:
            yield f"{job.id} is {job.state} and has {len(by_job[job.id])} versions"
    for name, versions in by_name.items():
        if sorted(versions) != list(range(1, len(versions) + 1)):
            yield f"{name} has versions {sorted(versions)}"


def no_device_is_held_by_an_attempt_that_has_ended(facts: Facts) -> Iterator[str]:
    for device in facts.devices:
        job = facts.jobs.get(device.job_id)
        if device.job_id is not None and (job is None or (job.state, job.fence) != ("running", device.fence)):
            now = "is not there" if job is None else f"is {job.state} with fence {job.fence}"
            yield f"{device.id} is held by attempt {device.fence} of {device.job_id}, which {now}"


def no_device_is_held_by_two(facts: Facts) -> Iterator[str]:
    """A row names one attempt, so the other one has fewer devices than it took; one that left them has none."""
    held = Counter((device.job_id, device.fence) for device in facts.devices)
    for job in facts.jobs.values():
        has, wanted = held[job.id, job.fence], job.spec.get("resources", {}).get("devices", 1)
        if job.state == "running" and has not in (0, wanted):
            yield f"attempt {job.fence} of {job.id} holds {has} of its {wanted} devices"
    served = Counter(device.worker for device in facts.devices if device.worker is not None)
    for worker, count in served.items():
        if count > 1:
            yield f"{worker} serves {count} devices"


def no_process_works_for_a_final_job(facts: Facts) -> Iterator[str]:
    """A runner's working directory is its attempt's folder."""
    give_up = time.monotonic() + GONE_WITHIN
    while working := list(_working_below(facts.work)):
        if time.monotonic() > give_up:
            yield f"still at work: {working}"
            return
        time.sleep(0.05)


def _working_below(folder: Path) -> Iterator[tuple[int, str]]:
    for pid in psutil.pids():
        with suppress(OSError):  # a zombie has none
            cwd = os.readlink(f"/proc/{pid}/cwd")
            if Path(cwd).is_relative_to(folder):
                yield pid, cwd


RULES: tuple[Callable[[Facts], Iterator[str]], ...] = (
    every_accepted_job_is_final,
    at_most_one_attempt_succeeded,
    commits_are_in_fence_order,
    metrics_are_those_of_an_untouched_run,
    the_result_is_that_of_an_untouched_run,
    listed_files_are_complete,
    nothing_half_written_is_listed,
    every_attempt_went_on_from_the_newest_good_checkpoint,
    every_tick_has_one_job,
    every_trial_has_one_job,
    every_sweep_is_final_with_its_best,
    every_job_has_one_model_version,
    no_device_is_held_by_an_attempt_that_has_ended,
    no_device_is_held_by_two,
    no_process_works_for_a_final_job,
)


def _short(steps: list[int]) -> str:
    return f"{steps[:20]}…" if len(steps) > 20 else str(steps)
