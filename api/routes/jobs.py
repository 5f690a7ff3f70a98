"""Routes that submit, list, show and control jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Query
from pydantic import AfterValidator
from starlette.requests import Request
from starlette.responses import JSONResponse

from api.auth import Owner
from api.dependencies import Cursor, JobId, Limit, Search, Tag, TheService, find_job
from api.errors import body_of
from api.openapi import COMMON, problems
from api.route import AsSent, DirectRoute, Route
from api.schemas import Accepted, BatchAnswer, JobView, Page, WhyView
from api.services import batches, job_actions, reruns, submission
from api.services.batches import Answer, Batch
from api.services.spec_errors import parse_spec
from api.services.submission import Submission
from nightshift.errors import RequestError
from nightshift.names import Kind
from nightshift.states import JobState
from shared.db.engine import read
from shared.jobs import queries, transitions
from shared.jobs.explain import explain
from shared.jobs.queries import JobFilters
from shared.jobs.transitions import NewJob, Submitted
from shared.specs.base import Name
from shared.specs.batches import JobBatch
from shared.specs.edits import JobPatch, Rerun
from shared.specs.examples import BATCH_EXAMPLES, EXAMPLES
from shared.specs.families import FAMILIES
from shared.specs.jobs import JobSpec


def _known_family(name: str) -> str:
    if name not in {*FAMILIES.allowed, *FAMILIES.installed}:
        raise ValueError(f"unknown family; families: {', '.join(FAMILIES.allowed)}")
    return name


#: A family in the query. Jobs of one that is not installed any more are found while the setting still names it.
FamilyName = Annotated[Name, AfterValidator(_known_family)]

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=COMMON, route_class=Route)


IdempotencyKey = Annotated[
    str | None,
    Header(description="Repeating a request with the same key and body returns the same job. Another body: 422."),
]


BatchKey = Annotated[
    str | None,
    Header(description="Repeating a batch with the same key and body returns the same jobs. Another body: 422."),
]

#: Several jobs.
BatchBody = Annotated[JobBatch, Body(openapi_examples=BATCH_EXAMPLES)]

#: A job of any kind.
JobBody = Annotated[JobSpec, Body(openapi_examples=EXAMPLES)]


def submit(
    spec: JobBody,
    body: AsSent,
    request: Request,
    service: TheService,
    owner: Owner,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """The job is durable once this answers 202. `Location` is its address."""
    return _created(*submission.submit(service, Submission(owner, spec, body, idempotency_key, request.headers)))


router.add_api_route(
    "",
    submit,
    methods=["POST"],
    status_code=202,
    response_model=Accepted,
    summary="Submit a job",
    route_class_override=DirectRoute,
)


@router.post("/batch", status_code=202, response_model=BatchAnswer, summary="Submit several jobs")
def submit_batch(
    batch: BatchBody,
    body: AsSent,
    request: Request,
    service: TheService,
    owner: Owner,
    idempotency_key: BatchKey = None,
) -> JSONResponse:
    """Up to 1,000 jobs in one transaction; `items` answers each in its place.

    With `"mode": "all"` (the default) one job that is refused refuses all, with 422. With `each` the others are
    submitted, and the item of a refused job has its `error` and no `id`.
    """
    answers = batches.submit(service, Batch(owner, batch, body, idempotency_key, request.headers))
    return JSONResponse({"items": [_item(answer) for answer in answers]}, status_code=202)


def _item(answer: Answer) -> dict[str, Any]:
    outcome = answer.outcome
    if answer.new is None or isinstance(outcome, RequestError):
        assert isinstance(outcome, RequestError)
        return {"id": None, "name": None, "state": None, "created": False, "error": body_of(outcome)}
    head = {"id": outcome.job_id, "name": answer.new.spec.name, "state": outcome.state}
    return {**head, "created": outcome.created, "error": None}


@router.post(
    "/{job_id}/rerun",
    status_code=202,
    response_model=Accepted,
    responses=problems(404, 409),
    summary="Run a job again, with changes",
)
def rerun(
    job_id: JobId,
    asked: Rerun,
    request: Request,
    service: TheService,
    owner: Owner,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Submits a new job with the spec of this one, which may be in any state; `{}` changes nothing.

    It runs at once (`run_at` and `after` are not copied), on the newest version of the data set that the spec names;
    `copied_from` lists the differences. `name`, `register_as` and `promote` are not copied: a model is registered only
    if `set` or `spec` has it (`{"set": {"register_as": "digits"}}`). Another `model.preset` replaces the model's other
    fields, another `training.optimizer` the learning rate and the optimizer's constants.
    """
    with read(service.engine) as conn:
        origin = find_job(conn, job_id, owner)
    transitions.refuse_shard(origin)
    body = reruns.body_of(origin, asked)
    new = Submission(owner, parse_spec(body), body, idempotency_key, request.headers, origin)
    return _created(*submission.submit(service, new))


def _created(new: NewJob, submitted: Submitted) -> JSONResponse:
    return JSONResponse(
        _accepted(new, submitted), status_code=202, headers={"Location": f"/v1/jobs/{submitted.job_id}"}
    )


def _accepted(new: NewJob, submitted: Submitted) -> dict[str, Any]:
    """Return the response without reading the row again, which would cost as much as writing it."""
    spec = new.spec
    model = getattr(spec, "model", None)
    return {
        "id": submitted.job_id,
        "kind": spec.kind,
        "name": spec.name,
        "state": submitted.state,
        "family": getattr(model, "family", None),
        "framework": getattr(model or spec, "framework", None),
        "dataset": spec.dataset,
        "priority": spec.priority,
        "created": submitted.created,
        "spec": new.spec_as_json,
    }


@router.get("", response_model=Page[JobView], responses=problems(400), summary="List jobs, newest first")
def list_jobs(
    service: TheService,
    owner: Owner,
    state: Annotated[list[JobState] | None, Query(description="Repeatable.")] = None,
    kind: Annotated[Kind | Literal["shard"] | None, Query(description="Lists omit shards unless asked.")] = None,
    family: Annotated[FamilyName | None, Query(description="One that `GET /v1/families` lists.")] = None,
    tag: Annotated[Tag | None, Query(description="`key=value`, or `key` for any value.")] = None,
    q: Annotated[
        Search | None,
        Query(
            description="Words and conditions: `nightly test_accuracy > 0.95 lr < 0.01 tag:team=vision -state:failed`."
        ),
    ] = None,
    sweep: Annotated[
        str | None, Query(pattern=r"^[0-9a-f]{16}$", description="The id of a sweep: the jobs of its trials.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Archived jobs are omitted unless `q` has `is:archived` or `is:any`."""
    filters = JobFilters(tuple(item.value for item in state or ()), kind, family, tag, q, sweep)
    with read(service.engine) as conn:
        page = queries.list_jobs(conn, owner, filters, cursor, limit)
    return {"items": page.items, "next_cursor": page.next_cursor}


@router.get("/{job_id}", response_model=JobView, responses=problems(404, 409), summary="Show a job")
def show(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """With its complete spec, progress and result."""
    with read(service.engine) as conn:
        return queries.job_view(find_job(conn, job_id, owner))


@router.patch(
    "/{job_id}",
    response_model=JobView,
    responses=problems(404, 409),
    summary="Change name, notes, tags or priority",
)
def edit(job_id: JobId, patch: JobPatch, service: TheService, owner: Owner) -> dict[str, Any]:
    """In any state; the priority only while the job waits. `spec` does not change.

    Each change creates an event `edited` with the old and new values.
    """
    return job_actions.edit(service, job_id, owner, owner, patch)


@router.get("/{job_id}/why", response_model=WhyView, responses=problems(404, 409), summary="Explain a job's state")
def why(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Why the job waits, what it is doing or how it ended: reasons with codes, and one sentence."""
    with read(service.engine) as conn:
        job = find_job(conn, job_id, owner)
        found = explain(job, queries.explain_context(conn, job, service.settings.lease_seconds))
    reasons = [{"code": r.code, "sentence": r.sentence, "fields": r.fields} for r in found.reasons]
    return {"id": job["id"], "state": job["state"], "sentence": found.sentence, "reasons": reasons}


# -- control --------------------------------------------------------------------------------------

_CHANGED: dict[str, Any] = {"response_model": JobView, "responses": problems(404, 409)}
_CONTROL = {"status_code": 202, **_CHANGED}


@router.post("/{job_id}/cancel", **_CONTROL, summary="Cancel a job")
def cancel(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """A waiting job is cancelled at once, a running one at its next step. No result is kept."""
    return job_actions.act(service, job_id, owner, "cancel")


@router.post("/{job_id}/finish", **_CONTROL, summary="Finish a job early and keep its best model")
def finish(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Ends training at the next step and continues with the evaluation, as if all epochs were done."""
    return job_actions.act(service, job_id, owner, "finish")


@router.post("/{job_id}/pause", **_CONTROL, summary="Pause a job")
def pause(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """A running job writes a checkpoint and releases its device."""
    return job_actions.act(service, job_id, owner, "pause")


@router.post("/{job_id}/resume", **_CONTROL, summary="Resume a paused job")
def resume(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """It is queued again and resumes from its newest checkpoint, with its full time-out."""
    return job_actions.act(service, job_id, owner, "resume")


@router.post("/{job_id}/archive", **_CHANGED, summary="Archive a job")
def archive(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Lists omit it unless `q` has `is:archived` or `is:any`; nothing is deleted."""
    return job_actions.act(service, job_id, owner, "archive")


@router.post("/{job_id}/unarchive", **_CHANGED, summary="Unarchive a job")
def unarchive(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Lists show it again."""
    return job_actions.act(service, job_id, owner, "unarchive")


@router.delete("/{job_id}", status_code=204, responses=problems(404, 409), summary="Delete a finished job")
def delete(job_id: JobId, service: TheService, owner: Owner) -> None:
    """Permanently, with its files, checkpoints, metrics, log and events.

    409 while the job has not ended, or while a model version, an unfinished job or a schedule needs it. Its
    Idempotency-Key cannot be reused: sent again, it gets 409.
    """
    job_actions.delete(service, job_id, owner)
