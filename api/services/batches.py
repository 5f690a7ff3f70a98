"""Submit several jobs in one transaction: all or none, or each with its own answer.

A repeated batch returns the same jobs: the key of each job is made of the batch's key and the job's place in it, and
its hash is that of the whole batch, so that a batch that was changed is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.dependencies import Service
from api.http.json_body import MAX_ERRORS
from api.services import submission
from api.services.spec_errors import parse_spec
from api.services.submission import MAX_KEY, Submission
from nightshift.errors import FieldError, InvalidRequest, RequestError
from shared import tracing
from shared.jobs.transitions import NewJob, Submitted
from shared.specs.batches import MAX_JOBS, JobBatch

#: Longest key of a batch: a separator and the place of a job follow.
MAX_BATCH_KEY = MAX_KEY - len(f"#{MAX_JOBS - 1}")


@dataclass(frozen=True)
class Batch:
    """A request to create several jobs. `body` is the received body."""

    owner_id: str
    batch: JobBatch
    body: Mapping[str, Any]
    key: str | None = None
    #: Headers of the request, which may carry the caller's trace context.
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What became of one job: written, or refused."""

    new: NewJob | None
    outcome: Submitted | RequestError


def submit(service: Service, asked: Batch) -> list[Answer]:
    """Write the jobs; return an answer for each, in order. On return they are durable, and their doorbells are rung.

    Raises InvalidRequest if the batch is all or none and a job is refused, then nothing is written.
    """
    submission.check_idempotency_key(asked.key, MAX_BATCH_KEY)
    is_all = asked.batch.mode == "all"
    body_hash = submission.hash_of(asked.body)
    checked = [_checked(service, asked, place, body_hash) for place in range(len(asked.batch.jobs))]
    if is_all:
        _refuse([one for one in checked if isinstance(one, RequestError)], checked)
    news = [one for one in checked if isinstance(one, NewJob)]
    outcomes = service.submissions.submit_batch(news, all_or_none=is_all)
    if is_all:
        _refuse([one for one in outcomes if isinstance(one, RequestError)], outcomes)
    _ring(service, news, outcomes)
    written = iter(zip(news, outcomes, strict=True))
    return [Answer(None, one) if isinstance(one, RequestError) else Answer(*next(written)) for one in checked]


def _checked(service: Service, asked: Batch, place: int, body_hash: str) -> NewJob | RequestError:
    """Parse and check one job; return what is written, or why it is refused."""
    body = asked.batch.jobs[place]
    key = None if asked.key is None else f"{asked.key}#{place}"
    try:
        spec = parse_spec(body)
        one = Submission(asked.owner_id, spec, body, key, asked.headers)
        with tracing.submitting(asked.headers, spec.kind) as traced:
            return submission.new_job(service, one, traced, body_hash)
    except RequestError as refused:
        return refused


def _refuse(refused: Sequence[RequestError], outcomes: Sequence[object]) -> None:
    """Raise InvalidRequest with the errors of all refused jobs, each with the job's place in the batch."""
    if not refused:
        return
    places = [place for place, one in enumerate(outcomes) if isinstance(one, RequestError)]
    errors = [
        FieldError(("jobs", place, *error.loc), error.msg)
        for place, one in zip(places, refused, strict=True)
        for error in one.errors or [FieldError((), one.detail)]
    ]
    shown = ", ".join(map(str, places[:10])) + (f" and {len(places) - 10} more" if len(places) > 10 else "")
    detail = f"Nothing was submitted, because these jobs are refused (counted from 0): {shown}."
    raise InvalidRequest(detail, errors[:MAX_ERRORS])


def _ring(service: Service, news: Sequence[NewJob], outcomes: Sequence[Submitted | RequestError]) -> None:
    """Ring once for each device that a due job requests."""
    due = {
        new.spec.resources.device: outcome.job_id
        for new, outcome in zip(news, outcomes, strict=True)
        if isinstance(outcome, Submitted) and outcome.is_due
    }
    for device, job_id in due.items():
        service.ring(device, job_id)
