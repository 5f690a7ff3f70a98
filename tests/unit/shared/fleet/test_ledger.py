"""The ledger of devices: who holds each, what a claim respects, cordons and drains; on both databases."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, update

from nightshift.errors import NotFound
from shared.db.engine import read, write
from shared.db.schema import jobs
from shared.fleet import ledger, workers
from shared.jobs import queries, transitions
from shared.jobs.explain import explain
from shared.jobs.preemption import Rules
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import Lease, leasing
from tests.support.factories import (
    ERROR,
    LEASE_SECONDS,
    OWNER,
    claim_job,
    expire_lease,
    let_wait,
    make_claimer,
    register_device,
    submit_job,
)
from tests.support.long_queue import analyzed, lengthen, work_of

GB = 1_000_000_000


def listed(engine: Engine, owner_id: str | None = OWNER) -> dict[str, dict[str, Any]]:
    with read(engine) as conn:
        return {one["worker"]: one for one in ledger.list_devices(conn, LEASE_SECONDS, owner_id)}


def claim(engine: Engine, worker: str = "cpu0@test", device: str = "cpu") -> str | None:
    with write(engine) as conn:
        claimed = transitions.claim(conn, make_claimer(worker, device), LEASE_SECONDS)
    return claimed.lease.job_id if claimed else None


def why(engine: Engine, job_id: str) -> Any:
    with read(engine) as conn:
        job = queries.get_job(conn, job_id, OWNER)
        return explain(job, queries.explain_context(conn, job, LEASE_SECONDS)).reasons[0]


def test_a_claim_says_who_holds_the_device_and_an_ending_frees_it(engine: Engine) -> None:
    register_device(engine)
    submit_job(engine)
    lease = claim_job(engine).lease
    held = listed(engine)["cpu0@test"]
    assert (held["job_id"], held["attempt"], held["holder"]) == (lease.job_id, lease.fence, "cpu0@test")
    assert held["held_since"] is not None
    others = listed(engine, "somebody else")["cpu0@test"]
    assert (others["is_held"], others["job_id"], others["attempt"]) == (True, None, None)
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[])
    freed = listed(engine)["cpu0@test"]
    assert (freed["is_held"], freed["job_id"], freed["holder"], freed["held_since"]) == (False, None, None, None)


def ended(engine: Engine, lease: Lease, how: str) -> None:
    if how == "rescued":
        expire_lease(engine, lease.job_id)
    with write(engine) as conn:
        match how:
            case "failed":
                transitions.fail(conn, lease, outcome=AttemptOutcome.CRASHED, error={**ERROR, "retryable": True})
            case "drained":
                transitions.release(conn, lease, outcome=AttemptOutcome.DRAINED)
            case "cancelled":
                transitions.stop(conn, lease, outcome=AttemptOutcome.CANCELLED)
            case "rescued":
                transitions.rescue(conn, job_id=lease.job_id, seen_fence=lease.fence, poison_limit=3)
            case "finishing":
                transitions.leave_devices(conn, lease)


@pytest.mark.parametrize("how", ["failed", "drained", "cancelled", "rescued", "finishing"])
def test_however_an_attempt_leaves_its_device_it_is_free(engine: Engine, how: str) -> None:
    register_device(engine)
    submit_job(engine)
    ended(engine, claim_job(engine).lease, how)
    assert not listed(engine)["cpu0@test"]["is_held"]


def test_a_late_ending_does_not_free_the_device_of_the_next_attempt(engine: Engine) -> None:
    register_device(engine)
    submit_job(engine, priority=9)
    first = claim_job(engine).lease
    second = submit_job(engine).job_id
    assert claim(engine) == second  # by the same worker, after a restart
    ended(engine, first, "rescued")
    assert listed(engine)["cpu0@test"]["job_id"] == second


def test_registering_again_keeps_a_cordon_and_what_is_held(engine: Engine) -> None:
    register_device(engine)
    job_id = submit_job(engine).job_id
    claim_job(engine)
    with write(engine) as conn:
        ledger.cordon(conn, "cpu0@test")
    register_device(engine, labels=["new"])
    device = listed(engine)["cpu0@test"]
    assert (device["job_id"], device["labels"]) == (job_id, ["new"])
    assert device["cordoned_at"] is not None


def test_a_job_that_was_claimed_before_the_device_was_known_holds_it(engine: Engine) -> None:
    job_id = submit_job(engine).job_id
    claim_job(engine)
    register_device(engine)
    assert listed(engine)["cpu0@test"]["job_id"] == job_id


def test_a_cordon_follows_the_gpu_not_its_number(engine: Engine) -> None:
    register_device(engine, "gpu0@test", device_uuid="GPU-a")
    register_device(engine, "gpu1@test", device_uuid="GPU-b")
    with write(engine) as conn:
        assert ledger.cordon(conn, "GPU-a") == ["GPU-a"]
    register_device(engine, "gpu0@test", device_uuid="GPU-b")
    submit_job(engine)
    assert claim(engine, "gpu0@test", "gpu") is not None
    register_device(engine, "gpu1@test", device_uuid="GPU-a")
    submit_job(engine)
    assert claim(engine, "gpu1@test", "gpu") is None


NEEDS = [
    ({"memory_gb": 40.0}, {"memory_bytes": 80 * GB}, {"memory_bytes": 16 * GB}),
    ({"model": "a100"}, {"device_name": "NVIDIA A100-SXM4"}, {"device_name": "NVIDIA T4"}),
    ({"labels": ["nvlink", "room=3"]}, {"labels": ["nvlink", "room=3", "more"]}, {"labels": ["nvlink"]}),
]


@pytest.mark.parametrize(("needs", "enough", "too_little"), NEEDS)
def test_only_a_device_that_meets_the_needs_takes_the_job(
    engine: Engine, needs: dict[str, Any], enough: dict[str, Any], too_little: dict[str, Any]
) -> None:
    register_device(engine, "gpu0@a", device_uuid="GPU-a", **too_little)
    job_id = submit_job(engine, resources={"device": "gpu", **needs}).job_id
    plain = submit_job(engine).job_id
    reason = why(engine, job_id)
    assert reason.code == "no_device"
    assert "gpu0@a is " in reason.sentence
    assert claim(engine, "gpu0@a", "gpu") == plain
    register_device(engine, "gpu0@b", device_uuid="GPU-b", **enough)
    assert why(engine, job_id).code == "worker_free"
    assert claim(engine, "gpu0@a", "gpu") is None
    assert claim(engine, "gpu0@b", "gpu") == job_id


def test_jobs_with_needs_keep_the_order_of_the_queue(engine: Engine) -> None:
    register_device(engine, memory_bytes=64 * GB)
    wanted = [
        submit_job(engine, **fields).job_id
        for fields in ({"resources": {"memory_gb": 8.0}}, {}, {"resources": {"memory_gb": 16.0}})
    ]
    assert [claim(engine) for _ in wanted] == wanted


def test_a_cordoned_device_takes_nothing_and_why_says_so(engine: Engine) -> None:
    register_device(engine)
    job_id = submit_job(engine).job_id
    with write(engine) as conn:
        ledger.cordon(conn, "test")  # the host
    assert claim(engine) is None
    reason = why(engine, job_id)
    assert (reason.code, reason.fields["devices"]) == ("no_device", [{"name": "cpu0@test", "cordoned": True}])
    assert "cpu0@test is cordoned" in reason.sentence
    with write(engine) as conn:
        ledger.uncordon(conn, "test")
    assert claim(engine) == job_id


def test_a_drain_asks_the_job_on_the_device_and_no_other(engine: Engine) -> None:
    ids = {}
    for name in ("cpu0@a", "cpu0@b"):
        register_device(engine, name)
        ids[name] = submit_job(engine).job_id
        claim_job(engine, make_claimer(name))
    with write(engine) as conn:
        ledger.cordon(conn, "cpu0@a")
    with write(engine) as conn:
        assert transitions.request_drain(conn, ledger.named("cpu0@a")) == [ids["cpu0@a"]]
    with read(engine) as conn:
        asked = {name: queries.get_job(conn, job_id, OWNER)["stop_requested"] for name, job_id in ids.items()}
    assert asked == {"cpu0@a": StopRequest.DRAIN.value, "cpu0@b": None}


def test_a_name_that_no_device_has_is_not_found(engine: Engine) -> None:
    with pytest.raises(NotFound), write(engine) as conn:
        ledger.cordon(conn, "gpu9@nowhere")


# -- gangs ------------------------------------------------------------------------------------------


def gang(engine: Engine, devices: int = 2, **resources: Any) -> str:
    return submit_job(engine, resources={"devices": devices, **resources}).job_id


def holders(engine: Engine) -> dict[str, str | None]:
    return {name: device["job_id"] for name, device in listed(engine).items()}


def test_a_gang_takes_all_its_devices_or_none(engine: Engine) -> None:
    register_device(engine, "cpu0@a")
    register_device(engine, "cpu0@b")
    job_id = gang(engine)
    assert claim(engine, "cpu0@a") is None, "devices of two hosts are no gang"
    register_device(engine, "cpu1@a")
    with write(engine) as conn:
        claimed = transitions.claim(conn, make_claimer("cpu1@a"), LEASE_SECONDS)
    assert claimed is not None
    assert claimed.devices == ("cpu1@a", "cpu0@a"), "the worker's own is the first"
    assert holders(engine) == {"cpu0@a": job_id, "cpu1@a": job_id, "cpu0@b": None}
    other = submit_job(engine).job_id
    assert claim(engine, "cpu0@a") is None, "it is held by the gang"
    ended(engine, claimed.lease, "failed")
    assert holders(engine) == {"cpu0@a": None, "cpu1@a": None, "cpu0@b": None}
    assert claim(engine, "cpu0@a") in (job_id, other)


@pytest.mark.parametrize("lacks", ["busy", "cordoned", "offline", "too small"])
def test_a_gang_holds_nothing_while_a_device_is_missing(engine: Engine, lacks: str) -> None:
    register_device(engine, "cpu0@a", memory_bytes=8 * GB)
    register_device(engine, "cpu1@a", memory_bytes=8 * GB if lacks != "too small" else GB)
    if lacks == "busy":
        submit_job(engine)
        assert claim(engine, "cpu1@a") is not None
    with write(engine) as conn:
        if lacks == "cordoned":
            ledger.cordon(conn, "cpu1@a")
        if lacks == "offline":
            workers.deregister(conn, "cpu1@a")
    gang(engine, memory_gb=4.0)
    assert claim(engine, "cpu0@a") is None
    assert not listed(engine)["cpu0@a"]["is_held"]


def test_why_a_gang_waits(engine: Engine) -> None:
    register_device(engine, "cpu0@a")
    register_device(engine, "cpu1@a")
    submit_job(engine)
    assert claim(engine, "cpu1@a") is not None
    reason = why(engine, gang(engine))
    assert (reason.code, reason.fields["host"], reason.fields["free"]) == ("gang_waits", "a", 1)
    assert "1 of the 2 devices" in reason.sentence


def test_two_claims_at_once_give_each_device_to_one_gang(engine: Engine) -> None:
    names = [f"cpu{number}@a" for number in range(4)]
    for name in names:
        register_device(engine, name)
    wanted = {gang(engine) for _ in range(6)}
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda name=name: found.append(claim(engine, name))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claimed = [job_id for job_id in found if job_id is not None]
    held = list(holders(engine).values())
    assert set(claimed) <= wanted
    assert len(set(claimed)) == len(claimed) <= 2
    assert sorted(held.count(job_id) for job_id in claimed) == [2] * len(claimed)


# -- devices that are kept for gangs ------------------------------------------------------------------

PATIENCE = 600.0


def keep(engine: Engine) -> dict[str, str | None]:
    """Keep devices, and return for whom."""
    with write(engine) as conn:
        transitions.reserve(conn, PATIENCE, 2)
    with read(engine) as conn:
        return {str(slot.worker): slot.reserved_for for slot in ledger.slots(conn)}


@pytest.fixture
def busy(engine: Engine) -> Lease:
    """Two slots, one of which runs a job that ends within 1,000 seconds."""
    for name in ("cpu0@a", "cpu1@a"):
        register_device(engine, name)
    submit_job(engine, timeout_seconds=1000.0)
    return claim_job(engine, make_claimer("cpu1@a")).lease


def test_a_gang_gets_its_devices_once_its_patience_has_ended(engine: Engine, busy: Lease) -> None:
    job_id = gang(engine)
    assert set(keep(engine).values()) == {None}
    let_wait(engine, job_id, PATIENCE + 1)
    assert keep(engine) == {"cpu0@a": job_id, "cpu1@a": job_id}
    assert why(engine, job_id).fields["kept"] == 2
    small = submit_job(engine).job_id
    too_long = submit_job(engine, timeout_seconds=2000.0).job_id
    assert claim(engine, "cpu0@a") is None
    assert why(engine, small).code == "devices_kept"
    filler = submit_job(engine, timeout_seconds=900.0).job_id
    with write(engine) as conn:
        filling = transitions.claim(conn, make_claimer("cpu0@a"), LEASE_SECONDS)
    assert filling is not None
    assert filling.lease.job_id == filler
    ended(engine, busy, "cancelled")
    assert claim(engine, "cpu1@a") is None
    ended(engine, filling.lease, "cancelled")
    assert claim(engine, "cpu1@a") == job_id
    assert set(keep(engine).values()) == {None}
    assert claim(engine, "cpu0@a") is None, "the gang holds it"
    assert {small, too_long}.isdisjoint(holders(engine).values())


@pytest.mark.parametrize("how", ["cancelled", "cordoned"])
def test_what_is_kept_for_nothing_any_more_is_given_up(engine: Engine, busy: Lease, how: str) -> None:
    job_id = gang(engine)
    let_wait(engine, job_id, PATIENCE + 1)
    keep(engine)
    with write(engine) as conn:
        if how == "cancelled":
            transitions.request_stop(conn, job_id, StopRequest.CANCEL, OWNER)
        else:
            ledger.cordon(conn, "cpu1@a")
    assert set(keep(engine).values()) == {None}


def test_nothing_fills_the_gap_before_a_job_whose_end_is_unknown(engine: Engine) -> None:
    for name in ("cpu0@a", "cpu1@a"):
        register_device(engine, name)
    submit_job(engine)
    lease = claim_job(engine, make_claimer("cpu1@a")).lease
    job_id = gang(engine)
    let_wait(engine, job_id, PATIENCE + 1)
    assert keep(engine) == {"cpu0@a": job_id, "cpu1@a": job_id}
    submit_job(engine, timeout_seconds=1.0)
    assert claim(engine, "cpu0@a") is None
    ended(engine, lease, "cancelled")
    assert claim(engine, "cpu0@a") == job_id


def test_an_urgent_job_preempts_a_gang(engine: Engine) -> None:
    for name in ("cpu0@a", "cpu1@a"):
        register_device(engine, name)
    victim = submit_job(engine, priority=0, resources={"devices": 2}).job_id
    assert claim(engine, "cpu0@a") == victim
    urgent = submit_job(engine, priority=9, preempt=True).job_id
    with write(engine) as conn:
        assert transitions.request_preemption(conn, urgent, Rules(2, 0.0, 0.0), LEASE_SECONDS) == victim


def test_a_job_of_low_priority_fills_the_gap_and_gives_way(engine: Engine, busy: Lease) -> None:
    job_id = gang(engine)
    let_wait(engine, job_id, PATIENCE + 1)
    keep(engine)
    low = submit_job(engine, priority=1).job_id
    assert claim(engine, "cpu0@a") == low

    def asked() -> list[str]:
        keep(engine)
        with write(engine) as conn:
            return transitions.give_way(conn)

    assert asked() == [], "the other device is held by a job that does not give way"
    ended(engine, busy, "cancelled")
    assert asked() == [low]
    ended(engine, Lease(low, 1, "cpu0@a"), "drained")
    assert claim(engine, "cpu0@a") == job_id


@pytest.mark.parametrize("lacks", ["online", "framework"])
def test_nothing_is_kept_where_no_worker_can_run_the_gang(engine: Engine, busy: Lease, lacks: str) -> None:
    for name in ("cpu0@0", "cpu1@0"):  # free at once, and of the first host in any order
        register_device(engine, name, frameworks=["tensorflow"] if lacks == "framework" else ["torch"])
    if lacks == "online":
        with write(engine) as conn:
            workers.deregister(conn, "cpu0@0")
    job_id = gang(engine)
    let_wait(engine, job_id, PATIENCE + 1)
    assert keep(engine) == {"cpu0@0": None, "cpu1@0": None, "cpu0@a": job_id, "cpu1@a": job_id}


def test_a_job_far_behind_those_that_may_not_fill_the_gap_is_not_searched_for(engine: Engine, busy: Lease) -> None:
    job_id = gang(engine)
    let_wait(engine, job_id, PATIENCE + 1)
    keep(engine)
    for _ in range(leasing.LOOKED_AT):
        submit_job(engine)
    behind = submit_job(engine, timeout_seconds=900.0).job_id
    assert claim(engine, "cpu0@a") is None
    first = submit_job(engine, timeout_seconds=900.0).job_id
    let_wait(engine, first, 60)
    assert claim(engine, "cpu0@a") == first
    assert behind not in holders(engine).values()


def test_a_longer_queue_of_jobs_that_may_not_fill_the_gap_costs_no_more(engine: Engine, busy: Lease) -> None:
    let_wait(engine, gang(engine), PATIENCE + 1)
    keep(engine)

    def work() -> int:
        with analyzed(engine):
            return work_of(engine, lambda conn: transitions.claim(conn, make_claimer("cpu0@a"), LEASE_SECONDS))

    lengthen(engine, leasing.LOOKED_AT, {})
    few = work()
    lengthen(engine, 3_000, {})
    assert work() < few + 500


@pytest.mark.parametrize("resources", [{"devices": 2}, {"memory_gb": 900.0}, {"labels": ["nowhere"]}])
def test_a_longer_queue_of_jobs_with_needs_that_a_device_does_not_meet_costs_no_more(
    engine: Engine, resources: dict[str, Any]
) -> None:
    register_device(engine)

    def work() -> int:
        with analyzed(engine):
            return work_of(engine, lambda conn: transitions.can_claim(conn, make_claimer()))

    lengthen(engine, 10, {"resources": resources})
    few = work()
    lengthen(engine, 3_000, {"resources": resources})
    assert work() < few + 100


# -- devices that an attempt left behind --------------------------------------------------------------


def test_a_device_that_an_ended_attempt_still_holds_is_freed(engine: Engine) -> None:
    """A process of a version without the ledger may end an attempt of this one."""
    for name in ("cpu0@a", "cpu1@a"):
        register_device(engine, name)
    job_id = gang(engine)
    assert claim(engine, "cpu0@a") == job_id
    assert freed(engine) == []
    with write(engine) as conn:
        conn.execute(update(jobs).where(jobs.c.id == job_id).values(state="queued", worker=None, lease_until=None))
    assert claim(engine, "cpu1@a") is None
    assert freed(engine) == [(job_id, 1)]
    assert holders(engine) == {"cpu0@a": None, "cpu1@a": None}
    assert claim(engine, "cpu1@a") == job_id
    assert freed(engine) == [], "the next attempt holds them"


def freed(engine: Engine) -> list[tuple[str, int]]:
    with write(engine) as conn:
        return transitions.free_left_devices(conn)


def test_a_renamed_worker_that_claimed_before_it_registered_holds_its_device(engine: Engine) -> None:
    register_device(engine, "gpu0@old", device_uuid="GPU-a")
    job_id = submit_job(engine).job_id
    assert claim(engine, "gpu0@new", "gpu") == job_id
    register_device(engine, "gpu0@new", device_uuid="GPU-a")
    assert listed(engine)["gpu0@new"]["job_id"] == job_id


def test_a_device_that_another_attempt_holds_stays_its_own_when_a_renamed_worker_registers(engine: Engine) -> None:
    register_device(engine, "gpu0@old", device_uuid="GPU-a")
    first = submit_job(engine).job_id
    assert claim(engine, "gpu0@old", "gpu") == first
    submit_job(engine)
    assert claim(engine, "gpu0@new", "gpu") is not None
    register_device(engine, "gpu0@new", device_uuid="GPU-a")
    assert listed(engine)["gpu0@new"]["job_id"] == first


def test_free_devices_of_two_kinds_are_too_few_for_an_urgent_gang(engine: Engine) -> None:
    victims = set()
    for kind in ("cpu", "gpu"):
        register_device(engine, f"{kind}0@a")
        register_device(engine, f"{kind}1@a")
        victims.add(submit_job(engine, priority=0, resources={"device": kind}).job_id)
        assert claim(engine, f"{kind}0@a", kind) in victims
    urgent = submit_job(engine, priority=9, preempt=True, resources={"devices": 2}).job_id
    with write(engine) as conn:
        assert transitions.request_preemption(conn, urgent, Rules(2, 0.0, 0.0), LEASE_SECONDS) in victims
