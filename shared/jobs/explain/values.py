"""Value objects of `shared.jobs.explain`: context, reasons and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.jobs.eligibility import Row

#: Most attempts in an answer; a job that was drained every night has many.
MAX_TRIES = 10
#: Most jobs ahead of a queued one that are counted. Too low: a long queue looks like a short one. Too high: asking
#: takes longer.
MOST_AHEAD = 1_000


@dataclass(frozen=True)
class ExplainContext:
    """Facts besides its row that a job's state depends on. Times are on the database's clock."""

    now: float
    lease_seconds: float = 30.0
    attempts: Sequence[Row] = ()  # newest first
    workers: Sequence[Row] = ()  # online ones
    left: Sequence[Row] = ()  # workers that left their device, or whose disk is full
    ahead: int = 0  # due jobs that its workers would claim first; MOST_AHEAD: so many or more
    awaited: Sequence[tuple[str, str | None]] = ()  # (id, state) of the jobs in `after`; None: deleted
    has_begun: bool = False  # the current attempt has reported progress
    victim: str | None = None  # the job that is being preempted for it
    shards: Sequence[Row] = ()  # of a job that waits for them, in their order
    #: Why one of the shards is queued.
    queued_shard: str | None = None


@dataclass(frozen=True)
class Reason:
    """One reason; `code` and `fields` for programs, `clause` as text."""

    code: str
    clause: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """Return the clause as a sentence."""
        return sentence(self.clause)


@dataclass(frozen=True)
class Why:
    """The explanation of a job's state."""

    sentence: str
    reasons: list[Reason]


def sentence(text: str) -> str:
    """Return the text with a capital letter and a period."""
    text = " ".join(text.split())
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?', '…')) else '.'}"


def clauses(reasons: Sequence[Reason]) -> str:
    """Join the clauses of reasons."""
    return "; ".join(reason.clause.rstrip(".") for reason in reasons)
