"""Facts in, reasons and a sentence out: the small values of `shared.jobs.explain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.jobs.eligibility import Row

#: Tries that are told of; a job that was drained every night has many.
MAX_TRIES = 10


@dataclass(frozen=True)
class ExplainContext:
    """What a job's state depends on besides its row. Times are the database's."""

    now: float
    lease_seconds: float = 30.0
    attempts: Sequence[Row] = ()  # newest first
    workers: Sequence[Row] = ()  # online ones
    ahead: int = 0  # due jobs that its workers would take first
    awaited: Sequence[tuple[str, str | None]] = ()  # (id, state) of the jobs it comes after; None: gone
    has_begun: bool = False  # the present attempt has told its progress
    victim: str | None = None  # the job that was asked to make room for it


@dataclass(frozen=True)
class Reason:
    code: str
    clause: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        return sentence(self.clause)


@dataclass(frozen=True)
class Why:
    sentence: str
    reasons: list[Reason]


def sentence(text: str) -> str:
    text = " ".join(text.split())
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?', '…')) else '.'}"


def clauses(reasons: Sequence[Reason]) -> str:
    return "; ".join(reason.clause.rstrip(".") for reason in reasons)
