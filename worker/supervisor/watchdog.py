"""Notices a runner that no longer gets on, by what it says it is doing. State of one attempt; times are given, not
read.

A loop that takes steps shows by itself how long a step takes: once a few are known, one that takes many times the
slowest of late is wedged. Everything that happens once or rarely (loading, a first step that compiles, a validation, a
checkpoint, an evaluation) has no such measure and gets `stall_seconds`; any word from it starts them anew.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from shared.clock import format_duration

#: Phases whose pulse is the number of steps; a word that is no step does not count in them.
STEPPING = frozenset({"train", "infer"})
#: Gaps between steps that set the limit (the newest so many), and how many there must be before it is trusted.
REMEMBERED, ENOUGH = 200, 3
#: Whoever watches looks at least this often. Longer between two looks, he was frozen himself: that time does not count.
LOOK_SECONDS, BLIND_SECONDS = 5.0, 10.0


@dataclass(frozen=True)
class Limits:
    """See the settings of the same names."""

    stall_seconds: float
    stall_factor: float
    stall_floor_seconds: float


class Watchdog:
    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self.phase = "load"
        self.step: int | None = None
        self._gaps: deque[float] = deque(maxlen=REMEMBERED)
        self._since = self._looked_at = now

    # -- what the runner says -----------------------------------------------------------------------

    def heard(self, now: float) -> None:
        """Some word. In a loop of steps it is no sign of life: other threads speak too."""
        if self.phase not in STEPPING:
            self._since = now

    def entered(self, phase: str, now: float) -> None:
        self.phase, self._since = phase, now

    def stepped(self, phase: str, step: int, now: float) -> None:
        """Steps may be told less often than they are made; what counts is the time between two that are told."""
        if self.step is not None and step <= self.step:
            return self.heard(now)
        if self.phase in STEPPING:
            self._gaps.append(now - self._since)
        else:
            self.phase = phase
        self.step, self._since = step, now
        return None

    # -- what the watcher asks ----------------------------------------------------------------------

    def looked(self, now: float) -> None:
        """Called at each look, after what was heard has been told."""
        blind = now - self._looked_at
        if blind > BLIND_SECONDS:
            self._since = min(now, self._since + blind)
        self._looked_at = now

    def excuse(self, now: float) -> None:
        """The runner was not allowed to run until now."""
        self._since = now

    @property
    def limit(self) -> float:
        """Seconds without a sign of life after which the runner is stalled."""
        limits = self._limits
        if self.phase not in STEPPING or len(self._gaps) < ENOUGH:
            return limits.stall_seconds
        floor = min(limits.stall_floor_seconds, limits.stall_seconds)
        return max(floor, limits.stall_factor * max(self._gaps))

    def stalled_at(self) -> float:
        return self._since + self.limit

    def diagnosis(self, now: float) -> str:
        silent = format_duration(now - self._since)
        if self.phase not in STEPPING or len(self._gaps) < ENOUGH:
            return f"no sign of life from the runner for {silent} in phase {self.phase}"
        slowest = format_duration(max(self._gaps))
        return f"no step after step {self.step} for {silent}; its slowest of late took {slowest}"
