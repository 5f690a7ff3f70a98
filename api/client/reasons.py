"""`nightshift why`: why a job is where it is, in sentences, from what the API shows of it, of workers and of the queue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from api.client.output import between, duration
from api.client.sdk import Client, Job
from shared.errors import NotFound
from shared.jobs.states import JobState


@dataclass(frozen=True)
class Surroundings:
    """What a job's state depends on besides itself."""

    attempts: Sequence[Any] = ()  # newest first
    workers: Sequence[dict[str, Any]] = ()
    queued: Sequence[Any] = ()
    awaited: Sequence[tuple[str, str]] = ()  # (id, state) of the jobs it comes after
    now: datetime = datetime.min


def look_around(client: Client, job: Job) -> Surroundings:
    attempts = sorted(job.attempts(), key=lambda attempt: -attempt["attempt"])
    workers = client.workers() if job.state is JobState.QUEUED else []
    queued = [other.data for other in client.jobs(state="queued")] if job.state is JobState.QUEUED else []
    awaited = [(other, _state_of(client, other)) for other in _after(job)] if job.state is JobState.WAITING else []
    return Surroundings(attempts, workers, queued, awaited, datetime.now(UTC))


def _after(job: Job) -> list[str]:
    return (job.data.get("spec") or {}).get("after") or []


def _state_of(client: Client, job_id: str) -> str:
    try:
        return client.job(job_id).state
    except NotFound:
        return "gone"


def explain(job: Any, around: Surroundings) -> list[str]:
    """One sentence per reason, the decisive one first."""
    told = {
        JobState.WAITING: _waiting,
        JobState.QUEUED: _queued,
        JobState.RUNNING: _running,
        JobState.PAUSED: _paused,
        JobState.SUCCEEDED: _ended,
        JobState.FAILED: _ended,
        JobState.CANCELLED: _ended,
    }[JobState(job["state"])]
    return [*told(job, around), *_attempts(around)]


def _waiting(job: Any, around: Surroundings) -> Iterator[str]:
    for job_id, state in around.awaited:
        if state != JobState.SUCCEEDED:
            yield f"It waits for job {job_id}, which is {state}."


def _queued(job: Any, around: Surroundings) -> Iterator[str]:
    run_at = datetime.fromisoformat(job["run_at"]) if job.get("run_at") else around.now
    if run_at > around.now:
        cause = "It waits before it is tried again" if around.attempts else "It was asked to wait"
        yield f"{cause}: not before {job['run_at']}, in {duration((run_at - around.now).total_seconds())}."
        return
    online = [worker for worker in around.workers if worker["state"] == "online"]
    fitting = [worker for worker in online if _fits(job, worker)]
    if not online:
        yield "No worker is online: start one with `nightshift up` or `nightshift worker`."
    elif not fitting:
        yield f"None of the {len(online)} workers online has what it needs: {_needs(job)}."
    else:
        yield from _in_line(job, fitting, around)


def _in_line(job: Any, fitting: Sequence[dict[str, Any]], around: Surroundings) -> Iterator[str]:
    busy = [f"{worker['name']} with {worker['job_id']}" for worker in fitting if worker.get("job_id")]
    if len(busy) == len(fitting):
        yield f"Every worker that can run it is busy: {', '.join(busy)}."
    else:
        yield "A worker is free; it should start within seconds."
    ahead = sum(_comes_before(other, job) for other in around.queued)
    if ahead:
        yield f"About {ahead} queued {'jobs are' if ahead > 1 else 'job is'} ahead of it, by priority and age."


def _fits(job: Any, worker: dict[str, Any]) -> bool:
    device = ((job.get("spec") or {}).get("resources") or {}).get("device", "auto")
    framework = job.get("framework")
    return device in ("auto", worker["device"]) and (not framework or framework in worker["frameworks"])


def _needs(job: Any) -> str:
    device = ((job.get("spec") or {}).get("resources") or {}).get("device", "auto")
    wanted = [f"device {device}" if device != "auto" else "", str(job.get("framework") or "")]
    return ", ".join(filter(None, wanted))


def _comes_before(other: Any, job: Any) -> bool:
    if other["id"] == job["id"]:
        return False
    return bool((-other["priority"], other["created_at"]) < (-job["priority"], job["created_at"]))


def _running(job: Any, around: Surroundings) -> Iterator[str]:
    yield f"It runs on {job.get('worker')} since {between(job.get('started_at'), None)}, as attempt {job['attempt']}."
    if job.get("stop_requested"):
        yield f"It was asked to {job['stop_requested']} and does so at the next step."


def _paused(job: Any, around: Surroundings) -> Iterator[str]:
    yield f"It was asked to pause; `nightshift resume {job['id']}` puts it back in the queue."


def _ended(job: Any, around: Surroundings) -> Iterator[str]:
    error = job.get("error")
    yield f"It {job['state']}: {error['type']}: {error['message']}" if error else f"It {_VERBS[job['state']]}."


_VERBS = {"succeeded": "succeeded", "failed": "failed", "cancelled": "was cancelled, by request"}


def _attempts(around: Surroundings) -> Iterator[str]:
    """The tries that did not count, oldest first: crash, loss, preemption, drain."""
    for attempt in reversed(around.attempts):
        if attempt.get("outcome") in (None, "succeeded", "cancelled"):
            continue
        error = attempt.get("error") or {}
        why = f" ({error['message']})" if error.get("message") else ""
        yield f"Attempt {attempt['attempt']} on {attempt['worker']} ended {attempt['outcome']}{why}."
