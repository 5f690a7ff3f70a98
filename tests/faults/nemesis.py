"""The nemesis: random faults against a running stack of real processes, and the oracle at the end.

    python -m tests.faults.nemesis [--seed S] [--faults N] [--database sqlite|postgres] [--minutes M] [--json FILE]

API, two workers, two maintenance processes, Redis and the database work on probe jobs of about a second, while each of
them is killed, frozen, drained, flooded or made to forget. The seed is printed and chooses everything but the machine's
own timing. Exit code: the number of violations (at most 100).
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import redis

from shared.celery_app import ATTEMPT_QUEUES
from tests.faults.feeder import Feeder
from tests.faults.injector import Hit, Injector
from tests.faults.oracle import evidence, violations
from tests.faults.tally import Round, measure
from tests.support import databases
from tests.support.databases import OwnPostgres, own_postgres, terminate_sessions
from tests.support.redis import RedisServer, running_redis
from tests.support.stack import Process, Stack, open_stack

LEASE = 3.0
SETTINGS = {
    "lease_seconds": LEASE,
    "heartbeat_seconds": 0.5,
    "maintenance_seconds": 0.5,
    "relay_seconds": 0.02,
    "stop_grace_seconds": 2,
}
#: From the last fault until everything must be final (seconds).
CALM = 300.0


class Nemesis(Injector):
    def __init__(self, stack: Stack, server: RedisServer, postgres: OwnPostgres | None, seed: int) -> None:
        super().__init__(seed)
        self.stack, self.server, self.postgres = stack, server, postgres
        stack.api()
        self.parts: dict[str, Process] = {"api": stack.processes[-1]}
        self.parts["beat0"] = stack.start("beat0", "worker.beat")
        self.parts["beat1"] = stack.start("beat1", "worker.beat", host_name="other")
        for index in range(2):
            self.parts[f"cpu{index}"] = stack.worker(index)

    def calm(self) -> None:
        super().calm()
        if self.postgres is not None:
            self.postgres.start()
        for name in self.parts:
            self._revive(name)

    def _menu(self) -> dict[str, int]:
        menu = {
            "runner_killed": 40, "runner_frozen": 2, "worker_killed": 6, "worker_frozen": 3, "worker_drained": 2,
            "forkserver_killed": 3, "maintenance_killed": 3, "maintenance_frozen": 1, "api_killed": 3,
            "redis_flushed": 2, "redis_killed": 1, "redis_frozen": 1, "redis_full": 1, "queue_flooded": 1,
        }  # fmt: skip
        return menu | ({"sqlite_held": 1} if self.postgres is None else {"postgres_crashed": 1, "sessions_ended": 2})

    def _count_deserters(self) -> None:
        for name, process in self.parts.items():
            if name not in self._busy and not process.alive():
                self.deserters.append(f"{name} ended by itself with {process.popen.returncode} (see {process.log})")
                self._revive(name)

    def _revive(self, name: str) -> None:
        if not self.parts[name].alive():
            self.parts[name] = self.parts[name].again()

    def _pick(self, prefix: str) -> str | None:
        free = [name for name, part in self.parts.items() if name.startswith(prefix) and name not in self._busy]
        return self.chance.choice([name for name in free if self.parts[name].alive()] or [""]) or None

    # -- who is hit -----------------------------------------------------------------------------------

    def _runners(self, worker: str) -> list[psutil.Process]:
        return [psutil.Process(pid) for pid in self.stack.runner_pids(self.parts[worker])]

    def _hit(self, worker: str) -> Hit | None:
        """(job, fence, its step) of the attempt at work there: its runner works in its folder."""
        for runner in self._runners(worker):
            folder = Path(runner.cwd())
            if folder.parent.name == "attempts":
                job_id = folder.parents[1].name
                return job_id, int(folder.name), (self.stack.job(job_id).progress or {}).get("step", 0)
        return None

    def _at_work(self) -> tuple[str | None, Hit | None]:
        """A worker with a runner, if there is one within a moment."""
        give_up = time.monotonic() + LEASE
        while time.monotonic() < give_up:
            name = self._pick("cpu")
            with suppress(psutil.NoSuchProcess):
                if name is not None and (hit := self._hit(name)) is not None:
                    return name, hit
            time.sleep(0.05)
        return None, None

    # -- faults: processes ----------------------------------------------------------------------------

    def runner_killed(self) -> None:
        name, hit = self._at_work()
        if name is None or hit is None:
            return
        for runner in self._runners(name):
            runner.kill()
        self.kills += 1
        self._note("runner_killed", hit=hit)

    def runner_frozen(self) -> None:
        name, hit = self._at_work()
        if name is None or hit is None:
            return
        runners = self._runners(name)
        if not runners:
            return
        runner = runners[0]
        runner.suspend()
        lasts = self.chance.uniform(0.2, LEASE)
        self._note("runner_frozen", lasts)
        self._later(f"runner of {name}", lasts, lambda: _thaw(runner))

    def worker_killed(self) -> None:
        self._kill("cpu", "worker_killed", self.chance.uniform(0.0, 1.0))

    def maintenance_killed(self) -> None:
        self._kill("beat", "maintenance_killed", self.chance.uniform(0.0, 1.0))

    def api_killed(self) -> None:
        self._kill("api", "api_killed", 0.0)

    def _kill(self, prefix: str, kind: str, away: float) -> None:
        name = self._pick(prefix)
        if name is None:
            return
        hit = self._hit(name) if prefix == "cpu" else None
        self._busy.add(name)
        self.parts[name].kill()
        self.kills += 1
        self._note(kind, away, hit)
        self._later(name, away, lambda: self._revive(name))

    def forkserver_killed(self) -> None:
        name = self._pick("cpu")
        if name is None:
            return
        hit = self._hit(name)
        for forkserver in self.stack.forkservers(self.parts[name]):
            forkserver.kill()
        self.kills += 1
        self._note("forkserver_killed", hit=hit)

    def worker_frozen(self) -> None:
        name = self._pick("cpu")
        if name is not None:
            self._freeze(name, "worker_frozen", self.chance.uniform(0.1, 3 * LEASE), self._hit(name))

    def maintenance_frozen(self) -> None:
        name = self._pick("beat")
        if name is not None:
            self._freeze(name, "maintenance_frozen", self.chance.uniform(0.1, 2 * LEASE), None)

    def _freeze(self, name: str, kind: str, lasts: float, hit: Hit | None) -> None:
        process = psutil.Process(self.parts[name].pid)
        process.suspend()
        self._note(kind, lasts, hit if lasts > LEASE else None)
        self._later(name, lasts, lambda: _thaw(process))

    def worker_drained(self) -> None:
        name = self._pick("cpu")
        if name is None:
            return
        hit = self._hit(name)
        self._busy.add(name)
        self._note("worker_drained", hit=hit)

        def leave() -> None:
            code = self.parts[name].terminate()
            if code != 0 and (hit is not None or code != -signal.SIGTERM):  # it may not have come to its handlers yet
                self.deserters.append(f"{name} drained with {code}")
            self._revive(name)

        self._later(name, 0.0, leave)

    # -- faults: Redis --------------------------------------------------------------------------------

    def redis_flushed(self) -> None:
        with suppress(redis.RedisError):
            self._redis().flushall()
            self._note("redis_flushed")

    def redis_killed(self) -> None:
        if "redis" not in self._busy:
            lasts = self.chance.uniform(0.1, 3.0)
            self.server.kill()
            self.kills += 1
            self._note("redis_killed", lasts)
            self._later("redis", lasts, self.server.start)

    def redis_frozen(self) -> None:
        if "redis" not in self._busy:
            lasts = self.chance.uniform(0.5, 5.0)
            self.server.freeze()
            self._note("redis_frozen", lasts)
            self._later("redis", lasts, self.server.thaw)

    def redis_full(self) -> None:
        if "redis" not in self._busy:
            lasts = self.chance.uniform(0.5, 3.0)
            self._redis().config_set("maxmemory", 1)
            self._note("redis_full", lasts)
            self._later("redis", lasts, lambda: self._redis().config_set("maxmemory", 0))

    def queue_flooded(self) -> None:
        with suppress(redis.RedisError):
            self._redis().lpush(ATTEMPT_QUEUES["auto"], *[b"not json", b"{}", b"[]", b"\xff"] * 50)
            self._note("queue_flooded")

    def _redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.server.url, socket_timeout=5)

    # -- faults: the database -------------------------------------------------------------------------

    def sqlite_held(self) -> None:
        if "database" in self._busy:
            return
        path = self.stack.database_url.removeprefix("sqlite:///")
        holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            holder.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            holder.close()
            return
        lasts = self.chance.uniform(0.2, 2 * LEASE)
        self._note("sqlite_held", lasts)
        self._later("database", lasts, holder.close)

    def postgres_crashed(self) -> None:
        if self.postgres is not None and "database" not in self._busy:
            self.postgres.crash()
            self._note("postgres_crashed", 1.0)
            self._later("database", self.chance.uniform(0.0, 2.0), self.postgres.start)

    def sessions_ended(self) -> None:
        if self.postgres is not None and "database" not in self._busy:
            terminate_sessions(self.postgres.url)
            self._note("sessions_ended")


def _thaw(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.resume()


# -- one run ------------------------------------------------------------------------------------------


@contextmanager
def house_on(database: str, folder: Path) -> Iterator[tuple[Stack, RedisServer, OwnPostgres | None]]:
    with ExitStack() as stack:
        server = stack.enter_context(running_redis(folder))
        postgres = stack.enter_context(own_postgres()) if database == "postgres" else None
        if postgres is None:
            template = databases.make_sqlite_template(folder)
            url = databases.sqlite_database(folder, template)
        else:
            url = postgres.url
        yield stack.enter_context(open_stack(folder, url, server.url, **SETTINGS)), server, postgres


def run(seed: int, faults: int, database: str, minutes: float, folder: Path) -> Round:
    round_ = Round(seed, database)
    begun = time.monotonic()
    with house_on(database, folder) as (stack, server, postgres):
        nemesis = Nemesis(stack, server, postgres, seed)
        feeder = Feeder(stack, seed)
        nemesis.run(faults, minutes)
        feeder.stop()
        nemesis.calm()
        try:
            feeder.everything_ends(CALM)
        except AssertionError as late:
            round_.violations.append(str(late))
        round_.violations += [*violations(stack.engine, stack.root, feeder.accepted), *feeder.wrong, *nemesis.deserters]
        round_.violations += blamed(stack)
        if round_.violations:
            (folder / "evidence.txt").write_text(evidence(stack.engine, stack.root, round_.violations))
        measure(round_, stack.engine, nemesis.injected)
    round_.kills, round_.accepted, round_.refused = nemesis.kills, len(feeder.accepted), feeder.refused
    round_.slowest_submission = round(feeder.slowest, 3)
    round_.minutes = round((time.monotonic() - begun) / 60, 2)
    return round_


def blamed(stack: Stack) -> Iterator[str]:
    """A fault of the stack that was taken for the job's own error. (`max_retries` is 0, so it also failed the job.)"""
    for job_id in stack.all_ids():
        probe = stack.job(job_id).spec["tags"].get("probe", "train")
        for attempt in stack.attempts(job_id):
            if probe == "train" and attempt.outcome in ("job_error", "stalled", "timed_out", "out_of_memory"):
                yield f"{job_id}: attempt {attempt.fence} ended as {attempt.outcome}: {attempt.error}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.nemesis", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop injecting after so long")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args(argv)
    print(f"seed {given.seed}, {given.database}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="nightshift-nemesis-"))
    round_ = run(given.seed, given.faults, given.database, given.minutes, folder)
    print(f"{sum(round_.faults.values())} faults {round_.faults}, {round_.kills} kills, {round_.minutes} minutes")
    print(f"{round_.accepted} jobs accepted, states {round_.states}, attempts {round_.outcomes}")
    print(f"{round_.transactions} effect transactions, {round_.lost_steps} of {round_.steps} steps done again")
    for violation in round_.violations:
        print("VIOLATION", violation)
    if given.json:
        round_.save(given.json)
    if not round_.violations:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"everything is kept in {folder}")
    return min(len(round_.violations), 100)


if __name__ == "__main__":
    sys.exit(main())
