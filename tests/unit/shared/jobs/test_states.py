"""Precedence of stop requests is one fact: the database, the runner and the pages agree on every pair."""

from __future__ import annotations

import itertools
import socket

import pytest
from sqlalchemy import Engine

from api.flower.job_overview import actions
from shared.db.engine import write
from shared.jobs import transitions
from shared.jobs.states import StopRequest, strongest
from tests.support.factories import running_job
from worker.runners.reporter import Channel

CANCEL, FINISH, PAUSE, PREEMPT, DRAIN = StopRequest
PAIRS = list(itertools.product(StopRequest, repeat=2))


def test_the_order_is_total_and_a_cancel_is_never_taken_back() -> None:
    assert sorted(StopRequest, key=lambda request: sum(other.outranks(request) for other in StopRequest)) == [
        CANCEL,
        FINISH,
        PAUSE,
        PREEMPT,
        DRAIN,
    ]
    assert not any(request.outranks(request) or request.outranks(CANCEL) for request in StopRequest)
    assert all(request.outranks(None) for request in StopRequest)


def test_the_strongest_of_several() -> None:
    assert strongest([]) is strongest({None}) is None
    assert strongest([DRAIN, None, PAUSE, PREEMPT]) is PAUSE


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_runner_keeps_the_stronger_of_two(first: StopRequest, second: StopRequest) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(theirs)
        channel._on_message(first)
        channel._on_message(second)
    assert channel.stop_reason is strongest([first, second])


def test_the_database_keeps_the_stronger_of_two(engine: Engine) -> None:
    for first, second in PAIRS:
        lease = running_job(engine)
        with write(engine) as conn:
            transitions.request_stop(conn, lease.job_id, first, None)
            transitions.request_stop(conn, lease.job_id, second, None)
            assert transitions.renew(conn, lease).stop_requested is strongest([first, second]), (first, second)


@pytest.mark.parametrize("standing", [None, *StopRequest])
def test_the_page_offers_what_the_service_accepts(standing: StopRequest | None) -> None:
    row = {
        "state": "running",
        "stop_requested": standing and standing.value,
        "checkpoint_id": None,
        "archived_at": None,
        "part_of": None,
    }
    assert actions(row) == [request for request in (PAUSE, FINISH, CANCEL) if request.outranks(standing)]
    assert actions({**row, "part_of": "f4d654fa38404575"}) == [], "the whole job's requests are those of its shards"
