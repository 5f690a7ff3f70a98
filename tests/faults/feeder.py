"""Users: they submit jobs over HTTP until each is accepted, and change their minds now and then."""

from __future__ import annotations

import random
import secrets
import threading
import time
from contextlib import suppress

import httpx
from sqlalchemy import func, select

from shared.db.engine import read
from shared.db.schema import jobs
from shared.errors import DatabaseUnavailable
from tests.support.stack import Stack, eventually

#: Jobs that wait or run at a time. Too few: kills hit no running job. Too many: the end takes long.
UNFINISHED = 8
#: How long an answer is waited for (seconds).
PATIENCE = 30.0


class Feeder:
    """A thread that keeps some jobs in the stack. What was answered with 202 is `accepted`."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self._house, self._chance = stack, random.Random(seed)
        self.accepted: set[str] = set()
        self.sent, self.refused, self.sent_again = 0, 0, 0
        self.slowest = 0.0
        self.wrong: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when what was begun has been accepted."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._unfinished() >= UNFINISHED:
                self._stopping.wait(0.1)
            else:
                self._submit()
            if self.accepted and self._chance.random() < 0.05:
                self._change_a_mind()

    def _unfinished(self) -> int:
        try:
            with read(self._house.engine) as conn:
                return conn.scalar(select(func.count()).where(jobs.c.finished_at.is_(None))) or 0
        except DatabaseUnavailable:
            return UNFINISHED

    def _submit(self) -> None:
        """Repeat a submission with one key until it is answered: without an answer its outcome is unknown."""
        key, tags, spec = secrets.token_hex(8), self._tags(), self._spec()
        self.sent += 1
        for number in range(1_000):
            begun = time.monotonic()
            with suppress(httpx.TransportError):
                answer = self._house.post_job(key, PATIENCE, spec, **tags)
                if answer.status_code == 202:
                    self.accepted.add(answer.json()["id"])
                    self.slowest = max(self.slowest, time.monotonic() - begun)
                    self._sometimes_again(key, tags, spec, answer.json()["id"])
                    return
                if answer.status_code != 503:
                    self.wrong.append(f"a submission was answered {answer.status_code}: {answer.text[:200]}")
                    return
            self.refused += 1
            time.sleep(min(0.05 * (number + 1), 0.5))
        self.wrong.append("a submission was never accepted")

    def _sometimes_again(self, key: str, tags: dict[str, object], spec: dict[str, object], job_id: str) -> None:
        if self._chance.random() < 0.2:
            with suppress(httpx.TransportError):
                answer = self._house.post_job(key, PATIENCE, spec, **tags)
                self.sent_again += 1
                if answer.status_code == 202 and answer.json()["id"] != job_id:
                    self.wrong.append(f"key {key} made {job_id} and {answer.json()['id']}")

    def _tags(self) -> dict[str, object]:
        if self._chance.random() < 0.04:
            return {"probe": self._chance.choice(("segfault", "exit", "typed", "grandchildren"))}
        steps = self._chance.randint(30, 60)
        return {"steps": steps, "checkpoint": self._chance.randint(4, 12), "pace": round(1.0 / steps, 4)}

    def _spec(self) -> dict[str, object]:
        spec: dict[str, object] = {"priority": self._chance.randint(0, 9), "max_retries": 0}
        if self._chance.random() < 0.3:
            spec["register_as"] = f"model-{self._chance.randint(1, 3)}"
        return spec

    def _change_a_mind(self) -> None:
        job_id = self._chance.choice(sorted(self.accepted)[-3 * UNFINISHED :])
        with suppress(httpx.TransportError):
            self._house.post(
                f"/v1/jobs/{job_id}/{self._chance.choice(('cancel', 'pause', 'finish', 'resume'))}", PATIENCE
            )

    def everything_ends(self, cap: float) -> None:
        """Resume what is paused until all that was accepted is final."""

        def over() -> bool:
            with read(self._house.engine) as conn:
                left = conn.execute(select(jobs.c.id, jobs.c.state).where(jobs.c.finished_at.is_(None))).all()
            for row in left:
                if row.state == "paused":
                    with suppress(httpx.TransportError):
                        self._house.post(f"/v1/jobs/{row.id}/resume")
            time.sleep(0.1)
            return not left

        eventually("every job is final", over, cap)
