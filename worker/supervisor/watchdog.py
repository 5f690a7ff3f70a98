"""Detects a stalled runner by its reported phase and steps.

It holds the state of one attempt; times are passed in, not read. In a loop of steps the watchdog learns how long a step
takes: once a few gaps are known, a runner that takes many times the slowest recent gap is stalled. Phases without steps
(loading, a first step that compiles, a validation, a checkpoint, an evaluation) get `stall_seconds`; every message from
the runner restarts them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from shared.clock import format_duration

#: Phases in which only steps count as a sign of life.
STEPPING = frozenset({"train", "infer"})
#: Number of recent gaps between steps that set the limit, and the least number before it applies.
REMEMBERED, ENOUGH = 200, 3
#: Poll interval. A gap longer than BLIND_SECONDS means the supervisor was suspended and does not count as a stall.
LOOK_SECONDS, BLIND_SECONDS = 5.0, 10.0


@dataclass(frozen=True)
class Limits:
    """The settings of the same names."""

    stall_seconds: float
    stall_factor: float
    stall_floor_seconds: float


class Watchdog:
    """Stall detection for one attempt."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self.phase = "load"
        self.step: int | None = None
        self._gaps: deque[float] = deque(maxlen=REMEMBERED)
        self._since = self._looked_at = now

    # -- messages of the runner ---------------------------------------------------------------------

    def received(self, now: float) -> None:
        """Note a message. In a loop of steps it does not count: other threads send messages too."""
        if self.phase not in STEPPING:
            self._since = now

    def entered(self, phase: str, now: float) -> None:
        """Note a new phase."""
        self.phase, self._since = phase, now

    def stepped(self, phase: str, step: int, now: float) -> None:
        """Note a step. Not every step is reported; the time between two reports counts."""
        if self.step is not None and step <= self.step:
            return self.received(now)
        if self.phase in STEPPING:
            self._gaps.append(now - self._since)
        else:
            self.phase = phase
        self.step, self._since = step, now
        return None

    # -- polls of the supervisor --------------------------------------------------------------------

    def looked(self, now: float) -> None:
        """Note a poll, after all messages were noted."""
        gap = now - self._looked_at
        if gap > BLIND_SECONDS:
            self._since = min(now, self._since + gap)
        self._looked_at = now

    def excuse(self, now: float) -> None:
        """Restart the limit: the runner was suspended until now."""
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
        """Return the time at which the runner counts as stalled."""
        return self._since + self.limit

    def diagnosis(self, now: float) -> str:
        """Return the error message of a stall."""
        silent = format_duration(now - self._since)
        if self.phase not in STEPPING or len(self._gaps) < ENOUGH:
            return f"no sign of life from the runner for {silent} in phase {self.phase}"
        slowest = format_duration(max(self._gaps))
        return f"no step after step {self.step} for {silent}; the slowest recent step took {slowest}"
