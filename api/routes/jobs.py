"""Submit, list, look at and steer jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import JSONResponse

from api.auth import Owner
from api.dependencies import JobId, Search, Tag, TheService, whole_id
from api.http.json_body import json_body
from api.openapi import COMMON, body_of, job_body, problems
from api.schemas import Accepted, JobView, Page, WhyView
from api.services import job_actions, reruns, submission
from api.services.job_spec import Spec
from api.services.write_threads import WritingRoute
from nightshift.states import JobState
from shared.db.engine import read
from shared.jobs import queries, transitions
from shared.jobs.explain import explain
from shared.jobs.queries import JobFilters
from shared.jobs.states import StopRequest
from shared.specs.base import FamilyName
from shared.specs.edits import JobPatch, Rerun

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=WritingRoute)


IdempotencyKey = Annotated[
    str | None,
    Header(description="The same key and body: the same job, however often it is sent. Other body: 422."),
]


@router.post(
    "",
    status_code=202,
    response_model=Accepted,
    responses=COMMON | problems(400, 413, 415),
    openapi_extra=job_body(),
    summary="Submit a job",
)
async def submit(
    request: Request,
    service: TheService,
    owner: Owner,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """The job is durable when this answers 202. `Location` is where it is shown."""
    data = await json_body(request, service.settings.max_body_bytes)
    spec, submitted = await service.writers.run(
        submission.accept, service, owner, data, idempotency_key, request.headers
    )
    return _created(spec, submitted)


@router.post(
    "/{job_id}/rerun",
    status_code=202,
    response_model=Accepted,
    responses=COMMON | problems(400, 404, 409, 413, 415),
    openapi_extra=body_of(Rerun),
    summary="Run a job again, with changes",
)
async def rerun(
    job_id: JobId, request: Request, service: TheService, owner: Owner, idempotency_key: IdempotencyKey = None
) -> JSONResponse:
    """A new job with the spec of this one, in any state of it; `{}` changes nothing. It runs at once (`run_at` and
    `after` are not copied), on the newest version of the data set that the spec names, and says in `copied_from` what
    differs. `name`, `register_as` and `promote` are not copied: it registers a model only if `set` or `spec` says so
    (`{"set": {"register_as": "digits"}}`). Another `model.preset` takes the model's other fields along."""
    data = await json_body(request, service.settings.max_body_bytes)

    def work() -> JSONResponse:
        with read(service.engine) as conn:
            origin = queries.get_job(conn, whole_id(conn, job_id, owner), owner)
        return _created(*reruns.rerun(service, owner, origin, data, idempotency_key, request.headers))

    return await service.writers.run(work)


def _created(spec: Spec, submitted: transitions.Submitted) -> JSONResponse:
    return JSONResponse(
        _accepted(spec, submitted), status_code=202, headers={"Location": f"/v1/jobs/{submitted.job_id}"}
    )


def _accepted(spec: Spec, submitted: transitions.Submitted) -> dict[str, Any]:
    """Built from what was written: reading the row again would cost as much as writing it."""
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
        "spec": spec.model_dump(mode="json"),
    }


@router.get("", response_model=Page[JobView], responses=COMMON | problems(400), summary="List jobs, newest first")
def list_jobs(
    service: TheService,
    owner: Owner,
    state: Annotated[list[JobState] | None, Query(description="May be given several times.")] = None,
    kind: Annotated[Literal["train", "finetune", "batch_infer", "evaluate"] | None, Query()] = None,
    family: Annotated[FamilyName | None, Query()] = None,
    tag: Annotated[Tag | None, Query(description="`key=value`, or `key` for any value.")] = None,
    q: Annotated[
        Search | None,
        Query(
            description="Words and conditions: `nightly test_accuracy > 0.95 lr < 0.01 tag:team=vision -state:failed`."
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=300, description="`next_cursor` of the page before.")] = None,
) -> dict[str, Any]:
    filters = JobFilters(tuple(item.value for item in state or ()), kind, family, tag, q)
    with read(service.engine) as conn:
        page = queries.list_jobs(conn, owner, filters, cursor, limit)
    return {"items": page.items, "next_cursor": page.next_cursor}


@router.get("/{job_id}", response_model=JobView, responses=COMMON | problems(404, 409), summary="Show a job")
def show(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    with read(service.engine) as conn:
        return queries.job_view(queries.get_job(conn, whole_id(conn, job_id, owner), owner))


@router.patch(
    "/{job_id}",
    response_model=JobView,
    responses=COMMON | problems(400, 404, 409, 413, 415),
    openapi_extra=body_of(JobPatch),
    summary="Change name, notes, tags or priority",
)
async def edit(job_id: JobId, request: Request, service: TheService, owner: Owner) -> dict[str, Any]:
    """Of a job in any state; the priority only while it waits. What it computes stays: `spec` is what was submitted.
    Each change leaves an event `edited`, with what was there before."""
    data = await json_body(request, service.settings.max_body_bytes)
    return await service.writers.run(job_actions.edit, service, job_id, owner, owner, data)


@router.get("/{job_id}/why", response_model=WhyView, responses=COMMON | problems(404, 409), summary="Why it is so")
def why(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Why the job waits, what it is doing, or how it ended: reasons for programs and one sentence for people."""
    with read(service.engine) as conn:
        job = queries.get_job(conn, whole_id(conn, job_id, owner), owner)
        found = explain(job, queries.explain_context(conn, job, service.settings.lease_seconds))
    reasons = [{"code": r.code, "sentence": r.sentence, "fields": r.fields} for r in found.reasons]
    return {"id": job["id"], "state": job["state"], "sentence": found.sentence, "reasons": reasons}


# -- steering -------------------------------------------------------------------------------------

_STEERED: dict[str, Any] = {
    "status_code": 202,
    "response_model": JobView,
    "responses": COMMON | problems(404, 409),
}


@router.post("/{job_id}/cancel", **_STEERED, summary="Cancel")
def cancel(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """A waiting job is cancelled at once, a running one at its next step; nothing of it is kept after that."""
    return job_actions.request_stop(service, job_id, owner, StopRequest.CANCEL)


@router.post("/{job_id}/finish", **_STEERED, summary="Stop now and keep the best model")
def finish(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Ends training at the next step and goes on with its evaluation, as if all epochs were done."""
    return job_actions.request_stop(service, job_id, owner, StopRequest.FINISH)


@router.post("/{job_id}/pause", **_STEERED, summary="Pause")
def pause(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """A running job writes a checkpoint and gives its device back."""
    return job_actions.request_stop(service, job_id, owner, StopRequest.PAUSE)


@router.post("/{job_id}/resume", **_STEERED, summary="Resume a paused job")
def resume(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    return job_actions.resume(service, job_id, owner)
