"""From a body to an accepted job: is it a spec, does what it names exist, can any worker run it, is it written.

The doorbell is rung after COMMIT, by another thread: a Redis that is down or hangs costs the caller nothing (the
dispatcher rings again).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api.deps import Service
from api.specs import Spec, check_idempotency_key, hash_of, parse_run_at, parse_spec, refuse
from shared.datasets import registry
from shared.datasets.builtins import BUILTIN
from shared.datasets.models import DatasetVersion
from shared.db.engine import read
from shared.errors import InvalidRequest, NotFound
from shared.jobs.states import JobState
from shared.jobs.transitions import NewJob, Submitted
from shared.models import registry as models
from shared.specs import supported
from shared.specs.families import FAMILIES
from shared.specs.jobs import BatchInferJob, EvaluateJob, FinetuneJob, TrainJob

# -- does what it names exist ---------------------------------------------------------------------


#: Built-in data sets that come with the package: registered by whoever names them first, in milliseconds.
AT_ONCE = frozenset({"digits"})
_BUILTIN_KIND = "image"


def check_references(service: Service, spec: Spec, owner_id: str) -> None:
    _check_dataset(service, spec)
    if not isinstance(spec, TrainJob):
        with read(service.engine) as conn:
            _check_model_ref(conn, spec, owner_id)


def _check_dataset(service: Service, spec: Spec) -> None:
    try:
        version = _version(service, spec.dataset)
    except NotFound as error:
        raise InvalidRequest.field(("dataset",), error.detail) from None
    if isinstance(spec, TrainJob):
        _check_kind(spec, version.summary["kind"] if version else _BUILTIN_KIND)
    if isinstance(spec, TrainJob | FinetuneJob) and version:
        _check_batch(spec, version.summary)


def _version(service: Service, name: str) -> DatasetVersion | None:
    """None for a built-in set that takes a download: the first worker that needs it registers it."""
    try:
        with read(service.engine) as conn:
            return registry.resolve(conn, name)
    except NotFound:
        if name not in BUILTIN:
            raise
        if name not in AT_ONCE:
            return None
    return registry.ensure_builtin(service.engine, service.settings, name)


def _check_kind(spec: TrainJob, kind: str) -> None:
    wanted = FAMILIES[spec.model.family].dataset_kind
    if kind != wanted:
        raise InvalidRequest.field(("dataset",), f"holds {kind} data; {spec.model.family} learns from {wanted} data")


def _check_batch(spec: TrainJob | FinetuneJob, summary: dict[str, Any]) -> None:
    count = summary["splits"]["train"].get("count")
    if summary["kind"] != "image" or not isinstance(count, int):
        return  # of a text, the windows are counted once its tokens are known
    left = count - int(count * spec.training.validation_split)
    if spec.training.batch_size > left:
        raise InvalidRequest.field(
            ("training", "batch_size"), f"is larger than the training set: at most {left} (after validation_split)"
        )


def _check_model_ref(conn: Connection, spec: FinetuneJob | BatchInferJob | EvaluateJob, owner_id: str) -> None:
    found = models.resolve(conn, spec.model_ref, owner_id)
    in_inference = isinstance(spec, BatchInferJob)
    framework = spec.inference.framework if isinstance(spec, BatchInferJob) else spec.framework
    place = ("inference", "framework") if in_inference else ("framework",)
    places: dict[str, tuple[str, ...]] = {"family": ("model_ref",), "framework": place}
    refuse(supported.objection(spec.kind, found.family, framework, places))


# -- is it written --------------------------------------------------------------------------------


def accept(service: Service, owner_id: str, data: Any, key: str | None) -> tuple[Spec, Submitted]:
    """Check and write a job; when this returns it is durable, and its doorbell is on its way."""
    check_idempotency_key(key)
    spec = parse_spec(data)
    run_at = parse_run_at(spec.run_at)
    check_references(service, spec, owner_id)
    new = NewJob(owner_id=owner_id, spec=spec, body_hash=hash_of(data), idempotency_key=key, run_at=run_at)
    submitted = service.submissions.submit(new)
    if submitted.created and submitted.state is JobState.QUEUED:
        service.ring(spec.resources.device, submitted.job_id)
    return spec, submitted
