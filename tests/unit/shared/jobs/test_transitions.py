"""Random walks over every transition, on both databases, against the table of legal moves and the promises G2, G7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, delete, func, select

from nightshift.errors import Conflict
from nightshift.states import JobState
from shared.db import schema
from shared.db.engine import read, write
from shared.errors import LeaseLost
from shared.jobs import transitions
from shared.jobs.states import TRANSITIONS, AttemptOutcome, StopRequest
from shared.jobs.transitions import Lease, MetricRow
from tests.support.factories import (
    LEASE_SECONDS,
    OWNER,
    expire_lease,
    make_checkpoint,
    make_claimer,
    make_due,
    submit_job,
)

JOBS = 3
ERROR = {"type": "unexpected_error", "message": "boom", "retryable": True}


class Walk(RuleBasedStateMachine):
    """A few jobs, and every lease that was ever handed out: most are stale, as after freezes and cut networks."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        with write(self.engine) as conn:
            conn.execute(delete(schema.jobs))
            conn.execute(delete(schema.model_versions))
        self.ids: list[str] = []
        self.leases: list[Lease] = []
        self.rows: dict[str, Any] = {}

    # -- moves ------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.ids) < JOBS)
    @rule(dependent=st.booleans(), priority=st.integers(0, 9))
    def submit(self, dependent: bool, priority: int) -> None:
        after = self.ids[-1:] if dependent else []
        self.ids.append(submit_job(self.engine, after=after, priority=priority, max_retries=1).job_id)

    @rule()
    def claim(self) -> None:
        with write(self.engine) as conn:
            claimed = transitions.claim(conn, make_claimer(), LEASE_SECONDS)
        if claimed is not None:
            assert self.rows[claimed.lease.job_id].state == "queued"
            self.leases.append(claimed.lease)

    @precondition(lambda self: self.ids)
    @rule(job=st.integers(0, JOBS - 1), request=st.sampled_from(StopRequest), by_system=st.booleans())
    def request_stop(self, job: int, request: StopRequest, by_system: bool) -> None:
        job_id = self.ids[job % len(self.ids)]
        try:
            with write(self.engine) as conn:
                transitions.request_stop(conn, job_id, request, None if by_system else OWNER)
        except Conflict:
            pass

    @precondition(lambda self: self.ids)
    @rule(job=st.integers(0, JOBS - 1))
    def resume(self, job: int) -> None:
        job_id = self.ids[job % len(self.ids)]
        was_paused = self.rows[job_id].state == "paused"
        try:
            with write(self.engine) as conn:
                transitions.resume(conn, job_id, OWNER)
            assert was_paused
        except Conflict:
            assert not was_paused

    @precondition(lambda self: self.leases)
    @rule(number=st.integers(0, 50), step=st.integers(1, 5))
    def record(self, number: int, step: int) -> None:
        self._as_attempt(number, lambda conn, lease: transitions.record(conn, lease, metrics=_metrics(step, lease)))

    @precondition(lambda self: self.leases)
    @rule(number=st.integers(0, 50), step=st.integers(1, 5))
    def checkpoint(self, number: int, step: int) -> None:
        self._as_attempt(
            number, lambda conn, lease: transitions.commit_checkpoint(conn, lease, make_checkpoint(step=step))
        )

    @precondition(lambda self: self.leases)
    @rule(number=st.integers(0, 50))
    def succeed(self, number: int) -> None:
        self._as_attempt(number, lambda conn, lease: transitions.succeed(conn, lease, result={}, artifacts=[]))

    @precondition(lambda self: self.leases)
    @rule(
        number=st.integers(0, 50),
        outcome=st.sampled_from([AttemptOutcome.JOB_ERROR, AttemptOutcome.CRASHED, AttemptOutcome.TIMED_OUT]),
    )
    def fail(self, number: int, outcome: AttemptOutcome) -> None:
        self._as_attempt(number, lambda conn, lease: transitions.fail(conn, lease, outcome=outcome, error=ERROR))

    @precondition(lambda self: self.leases)
    @rule(number=st.integers(0, 50), outcome=st.sampled_from([AttemptOutcome.CANCELLED, AttemptOutcome.PAUSED]))
    def stop(self, number: int, outcome: AttemptOutcome) -> None:
        self._as_attempt(number, lambda conn, lease: transitions.stop(conn, lease, outcome=outcome))

    @precondition(lambda self: self.leases)
    @rule(number=st.integers(0, 50), outcome=st.sampled_from([AttemptOutcome.DRAINED, AttemptOutcome.PREEMPTED]))
    def release(self, number: int, outcome: AttemptOutcome) -> None:
        self._as_attempt(number, lambda conn, lease: transitions.release(conn, lease, outcome=outcome))

    @precondition(lambda self: self.leases)
    @rule(number=st.integers(0, 50))
    def lose_and_rescue(self, number: int) -> None:
        lease = self.leases[number % len(self.leases)]
        expire_lease(self.engine, lease.job_id)
        held = self._is_held(lease)
        with write(self.engine) as conn:
            state = transitions.rescue(conn, job_id=lease.job_id, seen_fence=lease.fence, poison_limit=2)
        assert (state is not None) == held

    @rule()
    def settle_and_let_time_pass(self) -> None:
        with write(self.engine) as conn:
            transitions.resolve_dependencies(conn)
        for job_id in self.ids:
            make_due(self.engine, job_id)

    def _is_held(self, lease: Lease) -> bool:
        row = self.rows[lease.job_id]
        return bool(row.state == "running" and row.fence == lease.fence)

    def _as_attempt(self, number: int, act: Callable[[Any, Lease], object]) -> None:
        """A held lease may write; any other changes nothing."""
        lease = self.leases[number % len(self.leases)]
        held = self._is_held(lease)
        try:
            with write(self.engine) as conn:
                act(conn, lease)
        except LeaseLost:
            assert not held
        if not held:
            with read(self.engine) as conn:
                now = conn.execute(select(schema.jobs).where(schema.jobs.c.id == lease.job_id)).one()
            assert now == self.rows[lease.job_id]

    # -- what always holds ------------------------------------------------------------------------

    @invariant()
    def every_move_was_legal_and_all_tables_tell_the_same_story(self) -> None:
        with read(self.engine) as conn:
            rows = {row.id: row for row in conn.execute(select(schema.jobs))}
            for job_id, row in rows.items():
                self._check_story(conn, job_id, row)
        for job_id, row in rows.items():
            before = self.rows.get(job_id)
            if before is not None and before.state != row.state:
                assert JobState(row.state) in TRANSITIONS[JobState(before.state)], (before.state, row.state)
                assert row.event_seq > before.event_seq
            assert before is None or row.fence >= before.fence
            assert (row.state == "running") == (row.lease_until is not None)
            assert JobState(row.state).is_final == (row.finished_at is not None)
        self.rows = rows

    def _check_story(self, conn: Any, job_id: str, row: Any) -> None:
        attempts = conn.execute(
            select(schema.attempts).where(schema.attempts.c.job_id == job_id).order_by(schema.attempts.c.fence)
        ).all()
        assert [attempt.fence for attempt in attempts] == list(range(1, row.fence + 1))
        open_ones = [attempt.fence for attempt in attempts if attempt.outcome is None]
        assert open_ones == ([row.fence] if row.state == "running" else [])
        succeeded = [attempt.fence for attempt in attempts if attempt.outcome == "succeeded"]
        assert succeeded == ([row.fence] if row.state == "succeeded" else [])
        events = conn.execute(
            select(schema.job_events).where(schema.job_events.c.job_id == job_id).order_by(schema.job_events.c.seq)
        ).all()
        assert [event for event in events if event.type == "state"][-1].data["state"] == row.state
        assert events[-1].seq <= row.event_seq
        points = conn.scalar(select(func.count()).select_from(schema.metrics).where(schema.metrics.c.job_id == job_id))
        assert points <= 5, "one row per (name, step)"


def _metrics(step: int, lease: Lease) -> list[MetricRow]:
    return [MetricRow("loss", step, 0, float(lease.fence))]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_random_walks_keep_every_promise(kind: str, request: pytest.FixtureRequest) -> None:
    from shared.db.engine import make_engine

    engine = make_engine(request.getfixturevalue(f"{kind}_url"))
    machine = type("WalkHere", (Walk,), {"engine": engine})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=60 if kind == "sqlite" else 25,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        engine.dispose()


def test_the_table_of_moves_names_every_state_and_final_ones_have_none() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert {state for state, targets in TRANSITIONS.items() if not targets} == {
        state for state in JobState if state.is_final
    }
