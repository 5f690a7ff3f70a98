"""Injects faults at random until there were enough, and makes everything good again."""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress

import psutil
import redis

from shared.errors import DatabaseUnavailable
from tests.faults.tally import Injected

#: An attempt that a fault hit: its job, its fence, and the step it was at.
Hit = tuple[str, int, int]


class Injector(ABC):
    """Calls its methods that `_menu` names, one after another. The seed chooses all but the machine's own timing."""

    #: Time between two faults (seconds).
    PAUSE = (0.1, 0.7)
    #: Errors of a fault whose target is away: the next one is tried.
    IS_AWAY: tuple[type[Exception], ...] = (psutil.Error, DatabaseUnavailable, redis.RedisError)

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.injected: list[Injected] = []
        self.kills = 0
        self.deserters: list[str] = []
        self._busy: set[str] = set()  # what is being made good again
        self._repairs: list[threading.Thread] = []

    @abstractmethod
    def _menu(self) -> dict[str, int]:
        """Return fault -> weight."""

    @abstractmethod
    def _count_deserters(self) -> None:
        """Restart what ended although no fault ended it, and note it: that is a violation."""

    def run(self, faults: int, minutes: float) -> None:
        give_up = time.monotonic() + 60 * minutes
        names, weights = zip(*self._menu().items(), strict=True)
        while len(self.injected) < faults and time.monotonic() < give_up:
            time.sleep(self.chance.uniform(*self.PAUSE))
            self._count_deserters()
            kind = self.chance.choices(names, weights)[0]
            with suppress(*self.IS_AWAY):
                getattr(self, kind)()

    def calm(self) -> None:
        """Wait until everything is good again."""
        for repair in self._repairs:
            repair.join()
        self._count_deserters()

    def _note(self, kind: str, lasts: float = 0.0, hit: Hit | None = None) -> None:
        now = time.time()
        job_id, fence, step = hit or (None, None, 0)
        self.injected.append(Injected(kind, now, now + lasts, job_id, fence, step))

    def _later(self, name: str, seconds: float, repair: Callable[[], object]) -> None:
        """Nothing else is done to `name` meanwhile."""

        def act() -> None:
            time.sleep(seconds)
            try:
                repair()
            finally:
                self._busy.discard(name)

        self._busy.add(name)
        thread = threading.Thread(target=act, daemon=True)
        self._repairs.append(thread)
        thread.start()
