"""Reasons of waiting, queued and paused jobs: other jobs, `run_at`, retry delay, workers, jobs ahead, a pause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nightshift.states import JobState
from shared.clock import format_duration, iso
from shared.fleet.needs import Needs, Slot
from shared.fleet.workers import DISK_FULL, NOT_LISTENING
from shared.jobs.eligibility import Row, can_run, has_plugin, has_software, peers_of, plugins_of
from shared.jobs.explain.ended import attempt_fields, dependencies, outcome_text
from shared.jobs.explain.values import MOST_AHEAD, ExplainContext, Reason
from shared.jobs.states import CRASH_OUTCOMES, AttemptOutcome, StopRequest

_ANOTHERS = "another owner's job"


def waiting(job: Row, around: ExplainContext) -> Iterator[Reason]:
    """Yield the reasons of a job that waits for its shards or for other jobs."""
    if around.shards:
        yield from shards(around)
    else:
        yield from dependencies(around)


def shards(around: ExplainContext) -> Iterator[Reason]:
    """Yield what each of its shards is doing that has not succeeded."""
    for shard in around.shards:
        if shard["state"] == JobState.SUCCEEDED:
            continue
        number, percent = shard["pinned"]["shard"] + 1, (shard["progress"] or {}).get("percent")
        at = f" on {shard['worker']}" if shard["worker"] else ""
        so_far = f" at {percent:g} %" if at and percent is not None else ""
        fields = {"job_id": shard["id"], "shard": number, "state": shard["state"], "worker": shard["worker"]}
        yield Reason("shard", f"shard {number} (job {shard['id']}) is {shard['state']}{at}{so_far}", fields)
    if around.queued_shard:
        yield Reason("queued_shard", f"of a queued one: {around.queued_shard}", {"sentence": around.queued_shard})


def queued(job: Row, around: ExplainContext) -> Iterator[Reason]:
    """Yield the reasons of a queued job."""
    if job["stop_requested"] == StopRequest.FINISH:
        yield Reason(
            "stop_requested", "finish was requested: its next attempt only writes the results", {"request": "finish"}
        )
    if job["run_at"] > around.now:
        yield _not_yet(job, around)
        return
    fitting = [worker for worker in around.workers if can_run(job, worker)]
    if fitting:
        yield _gang(job, fitting) if Needs.parse(job.get("needs")).devices > 1 else _taken(job, fitting)
        if around.victim:
            clause = f"it preempts job {around.victim}, which stops after its next checkpoint"
            yield Reason("room_is_made", clause, {"job_id": around.victim})
        if around.ahead:
            yield _behind(around.ahead)
    elif left := [worker for worker in around.left if _could_run(job, worker)]:
        yield from _away(left)
    elif lacking := [worker for worker in around.workers if has_software(job, worker)]:
        yield _no_device(job, lacking)
    elif around.workers:
        yield _unsuited(job, around)
    else:
        clause = "no worker is online (start one with `nightshift up` or `nightshift worker`)"
        yield Reason("no_worker", clause, _wanted(job))


def _behind(ahead: int) -> Reason:
    more = "or more " if ahead >= MOST_AHEAD else ""
    jobs_are = "1 queued job is" if ahead == 1 else f"{ahead:,} {more}queued jobs are"
    return Reason("jobs_ahead", f"{jobs_are} ahead of it, by priority and waiting time", {"count": ahead})


def _not_yet(job: Row, around: ExplainContext) -> Reason:
    seconds = job["run_at"] - around.now
    until = {"until": iso(job["run_at"]), "seconds": round(seconds, 3)}
    last = around.attempts[0] if around.attempts else None
    if last is None or last["outcome"] not in _CHARGED:
        return Reason("run_at", f"its run_at is {until['until']}, in {format_duration(seconds)}", until)
    ended = f"attempt {last['fence']} ended: {outcome_text(last)}"
    clause = f"it will be retried in {format_duration(seconds)}; {ended}"
    fields = until | attempt_fields(last) | {"retries": job["retries"], "max_retries": job["max_retries"]}
    return Reason("back_off", clause, fields | {"lost_streak": job["lost_streak"]})


#: Outcomes after which a retry may be delayed.
_CHARGED = CRASH_OUTCOMES | {AttemptOutcome.JOB_ERROR}


def _gang(job: Row, fitting: Sequence[Row]) -> Reason:
    """Return how many of its devices are free on the host that has the most of them."""
    needs = Needs.parse(job["needs"])
    suited = {slot for worker in fitting for slot in (worker["slot"], *peers_of(worker)) if needs.fits(slot)}
    hosts: dict[str, set[str]] = {slot.host: set() for slot in suited}
    for slot in suited:
        if slot.job_id is None:
            hosts[slot.host].add(slot.id)
    host, free = max(sorted(hosts.items()), key=lambda item: len(item[1]))
    fields = {"needs": needs.text, "host": host, "free": len(free)}
    if len(free) >= needs.devices:
        return Reason(
            "worker_free", f"host {host} has its {needs.devices} devices free, so it should start soon", fields
        )
    kept = {
        slot.id for worker in fitting for slot in (worker["slot"], *peers_of(worker)) if slot.reserved_for == job["id"]
    }
    clause = f"host {host} has {len(free)} of the {needs.devices} devices free that it takes at once"
    if kept:
        clause += f"; {len(kept)} are kept for it"
    return Reason("gang_waits", clause, fields | {"kept": len(kept)})


def _no_device(job: Row, workers: Sequence[Row]) -> Reason:
    """Return what each device lacks that has all else: it is cordoned, or is not what the job needs."""
    needs = Needs.parse(job.get("needs"))
    shown = "; ".join(f"{worker['name']} {_lacks(worker.get('slot'))}" for worker in workers[:3])
    more = f"; and {len(workers) - 3} more" if len(workers) > 3 else ""
    wanted = f"what it needs ({needs.described})" if needs.text else "free to be used"
    devices = [{"name": worker["name"], "cordoned": _is_cordoned(worker)} for worker in workers]
    clause = f"no device online is {wanted}: {shown}{more}"
    return Reason("no_device", clause, {"needs": needs.text, "devices": devices})


def _lacks(slot: Slot | None) -> str:
    if slot is None:
        return "is not registered yet"
    return "is cordoned" if slot.is_cordoned else f"is {slot.described}"


def _is_cordoned(worker: Row) -> bool:
    slot: Slot | None = worker.get("slot")
    return slot is not None and slot.is_cordoned


def _wanted(job: Row) -> dict[str, Any]:
    return {"device": job["device"], "framework": job["framework"], "plugin": job["plugin"]}


def _unsuited(job: Row, around: ExplainContext) -> Reason:
    if not any(has_plugin(job, worker) for worker in around.workers):
        return _no_plugin(job, around)
    unusable = _unusable(job, around.workers)
    facts = _wanted(job) | {"workers_online": len(around.workers), "unusable": unusable}
    if reserved := _reserved(job, around.workers):
        clause = f"the workers online take only jobs that require their device ({', '.join(reserved[:3])})"
        return Reason("no_suitable_worker", clause, facts)
    wanted = [f"device {job['device']}" if job["device"] != "auto" else "", job["framework"] or ""]
    online = len(around.workers)
    which = "the only worker online does not have" if online == 1 else f"none of the {online} workers online has"
    clause = f"{which} what it requires: {' and '.join(filter(None, wanted))}"
    if unusable:
        shown = "; ".join(f"on {name} {job['framework']} does not work: {why}" for name, why in unusable.items())
        clause += f" ({shown})"
    return Reason("no_suitable_worker", clause, facts)


def _reserved(job: Row, workers: Sequence[Row]) -> list[str]:
    """Return the workers that could run a job for any device, and do not take any."""
    if job["device"] != "auto":
        return []
    return [worker["name"] for worker in workers if can_run({**job, "device": worker["device"]}, worker)]


def _unusable(job: Row, workers: Sequence[Row]) -> dict[str, str]:
    """Return why the job's framework does not work on devices that would suit it, by worker."""
    found = {worker["name"]: worker["unusable"].get(job["framework"]) for worker in workers if _could_run(job, worker)}
    return {name: why for name, why in found.items() if why}


def _could_run(job: Row, worker: Row) -> bool:
    """Return whether the worker could run the job if all its frameworks worked on its device."""
    return can_run(job, {**worker, "frameworks": [*worker["frameworks"], *worker["unusable"]]})


def _away(left: Sequence[Row]) -> Iterator[Reason]:
    """Yield why none of the workers that can run it takes jobs: they left their device, or their disk is full."""
    full = [worker for worker in left if worker["state"] == DISK_FULL]
    failed = [worker for worker in left if worker["state"] != DISK_FULL]
    if failed:
        what = "left its device, and looks from time to time whether it works again"
        yield Reason("device_failed", _who(failed, left, what), _reasons(failed))
    if full:
        what = "takes no jobs because its disk is full, and takes them again once there is room"
        yield Reason("disk_full", _who(full, left, what), _reasons(full))


def _who(some: Sequence[Row], left: Sequence[Row], what: str) -> str:
    """Return what some of the workers that can run it do, with their reasons."""
    whole = "the only worker" if len(left) == 1 else f"each of the {len(left)} workers"
    which = whole if len(some) == len(left) else f"each of {len(some)} of the {len(left)} workers"
    shown = "; ".join(f"{worker['name']}: {worker['left_because']}" for worker in some[:3])
    return f"{which} that can run it {what} ({shown})"


def _reasons(some: Sequence[Row]) -> dict[str, Any]:
    return {"workers": [{"name": worker["name"], "reason": worker["left_because"]} for worker in some]}


def _no_plugin(job: Row, around: ExplainContext) -> Reason:
    """Return that no worker has the plug-in, or none the pinned version: `no worker has nightshift-gbm 1.2 (…)`."""
    pinned = (job["pinned"] or {}).get("plugin")
    others = [
        f"{worker['name']} has {found.package.rpartition(' ')[2]}"
        for worker in around.workers
        for found in plugins_of(worker)
        if found.plugin == job["plugin"]
    ]
    wanted = f"the {job['plugin']}"
    if others and pinned:
        wanted = f"{pinned['package']}, which the job began with"
    elif others:
        wanted += " in the version that made its model"
    clause = f"no worker online has {wanted}" + (f" ({', '.join(others[:3])})" if others else "")
    if not others:
        setting = "NIGHTSHIFT_FAMILIES" if job["plugin"].startswith("family ") else "NIGHTSHIFT_PROGRAMS"
        clause += f" (install its package there and name it in {setting})"
    return Reason("no_plugin", clause, _wanted(job) | {"package": pinned["package"] if pinned else None})


def _taken(job: Row, fitting: Sequence[Row]) -> Reason:
    listening = [worker for worker in fitting if worker["state"] != NOT_LISTENING]
    return _busy_or_free(job, listening) if listening else _not_listening(fitting)


def _not_listening(fitting: Sequence[Row]) -> Reason:
    names = [worker["name"] for worker in fitting]
    which = f"worker {names[0]} has" if len(names) == 1 else f"all {len(names)} workers that can run it have"
    clause = f"{which} lost the subscription to its queue and will subscribe again within seconds"
    return Reason("not_listening", clause, {"workers": names})


def _busy_or_free(job: Row, fitting: Sequence[Row]) -> Reason:
    """Return whether a worker is free or all are busy. Jobs of other owners are not named."""
    busy = [
        {"name": worker["name"], "job_id": worker["job_id"] if worker["owner_id"] == job["owner_id"] else None}
        for worker in fitting
        if worker["job_id"]
    ]
    if len(busy) < len(fitting):
        free = [worker["name"] for worker in fitting if not worker["job_id"]]
        if all(_is_kept(worker, job) for worker in fitting if not worker["job_id"]):
            clause = f"each free device is held by, or kept for, a job of several devices ({', '.join(free[:3])})"
            return Reason("devices_kept", clause, {"workers": free})
        return Reason("worker_free", "a worker is free, so it should start within seconds", {"workers": free})
    shown = ", ".join(f"{worker['name']} with {worker['job_id'] or _ANOTHERS}" for worker in busy[:3])
    more = f" and {len(busy) - 3} more" if len(busy) > 3 else ""
    whole = "the only worker that can run it is busy" if len(busy) == 1 else "all workers that can run it are busy"
    return Reason("workers_busy", f"{whole} ({shown}{more})", {"workers": busy})


def _is_kept(worker: Row, job: Row) -> bool:
    """Return whether a gang holds the device of a worker that runs nothing itself, or it is kept for one."""
    slot: Slot | None = worker.get("slot")
    return slot is not None and (slot.job_id is not None or slot.reserved_for not in (None, job.get("id")))


def paused(job: Row, around: ExplainContext) -> Iterator[Reason]:
    """Yield the reason of a paused job."""
    yield Reason("paused", f"a pause was requested; `nightshift resume {job['id']}` puts it back in the queue")
