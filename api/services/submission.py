"""Submit jobs: check that everything the spec names exists and a worker could run it, write it, ring the doorbell.

The doorbell is rung after COMMIT, by another thread: a Redis that is down or hangs does not delay the caller, and the
dispatcher rings again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from api.dependencies import Service
from api.services import dataset_fit, programs, reruns
from api.services.dataset_fit import Facts
from nightshift.errors import FieldError, InvalidRequest, NotFound
from shared import tracing
from shared.datasets import builtins, registry
from shared.datasets.builtins import AT_ONCE, BUILTIN
from shared.datasets.models import DatasetVersion
from shared.db.engine import read, read_one
from shared.fleet import ledger
from shared.fleet.needs import Needs, objection
from shared.jobs.transitions import NewJob, Submitted
from shared.models import registry as models
from shared.specs import supported
from shared.specs.families import FAMILIES
from shared.specs.jobs import (
    AnyJob,
    BatchInferJob,
    EvaluateJob,
    FinetuneJob,
    LearnerJob,
    RunJob,
    TrainJob,
    check_gang,
    check_inference,
    check_optimizer,
    check_promotion,
    check_training,
    with_training_defaults,
)

#: Longest Idempotency-Key (characters), as wide as its column.
MAX_KEY = 255
_EVALUATE_ON = ("promote", "evaluate_on")


@dataclass(frozen=True)
class Submission:
    """A request to create a job. `body` is the received body; requests with the same key must have equal ones."""

    owner_id: str
    spec: AnyJob
    body: Mapping[str, Any]
    key: str | None = None
    #: Headers of the request, which may carry the caller's trace context.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The row of the job that this one is copied from.
    origin: Mapping[Any, Any] | None = None


def submit(service: Service, asked: Submission) -> tuple[NewJob, Submitted]:
    """Check and write a job. On return the job is durable, and its doorbell is being sent."""
    check_idempotency_key(asked.key)
    with tracing.submitting(asked.headers, asked.spec.kind) as traced:
        new = new_job(service, asked, traced, hash_of(asked.body) if asked.key else None)
        submitted = service.submissions.submit(new)
        if submitted.is_due:
            service.ring(new.spec.resources.device, submitted.job_id)
    return new, submitted


def new_job(service: Service, asked: Submission, traced: Mapping[str, Any], body_hash: str | None) -> NewJob:
    """Check a job and return what is written. Raises InvalidRequest."""
    spec, pinned = checked(service, asked.spec, asked.owner_id)
    new = NewJob(asked.owner_id, spec, body_hash, asked.key, {**traced, **pinned})
    origin = asked.origin
    return replace(new, copied_from=reruns.copied_from(origin, new.spec_as_json)) if origin else new


def checked(service: Service, spec: AnyJob, owner_id: str) -> tuple[AnyJob, dict[str, Any]]:
    """Check a job against the facts in SQL; return its complete spec, and what is pinned of the model that it uses.

    Raises InvalidRequest.
    """
    _refuse_unmet_needs(service, spec)
    if isinstance(spec, RunJob):
        return _checked_program(service, spec), {}
    facts = _facts(service, spec, owner_id)
    if isinstance(spec, FinetuneJob):
        spec = with_training_defaults(spec, facts.family)
    if isinstance(spec, TrainJob | FinetuneJob):
        refuse(check_training(facts.family, spec.training) or check_optimizer(spec.training))
    refuse(dataset_fit.objection(spec, facts))
    pinned = {} if isinstance(spec, TrainJob) else {"family": facts.family, **facts.made_by}
    return _with_fixed_evaluation(spec, facts.judged_on), pinned


def _refuse_unmet_needs(service: Service, spec: AnyJob) -> None:
    """Raise InvalidRequest if no host that is known has the devices."""
    needs = Needs.of(spec.resources)
    if needs.text is not None:
        with read_one(service.engine) as conn:
            refuse(objection(needs, spec.resources.device, ledger.slots(conn)))


def _checked_program(service: Service, spec: RunJob) -> AnyJob:
    program = programs.usable(service.settings, spec.program)
    version = dataset_version(service, spec.dataset, ("dataset",)) if spec.dataset else None
    judged_on = dataset_version(service, spec.promote.evaluate_on, _EVALUATE_ON) if spec.promote else None
    refuse(programs.objection(program, spec, version, judged_on))
    whole = programs.completed(program, spec)
    if whole.framework is None and whole.resources.devices > 1:
        message = f"the program {spec.program} declares no framework; several devices need torch or tensorflow"
        raise InvalidRequest.field(("resources", "devices"), message)
    refuse(check_gang(whole))
    return _with_fixed_evaluation(whole, judged_on)


# -- facts ----------------------------------------------------------------------------------------


def _facts(service: Service, spec: LearnerJob, owner_id: str) -> Facts:
    """Return the facts from SQL. Raises InvalidRequest for the first that is missing or unsuitable."""
    facts = _of_the_spec(spec) if isinstance(spec, TrainJob) else _of_the_model(service, spec, owner_id)
    dataset = dataset_version(service, spec.dataset, ("dataset",)) if spec.dataset else None
    promote = spec.promote if isinstance(spec, TrainJob | FinetuneJob) else None
    judged_on = dataset_version(service, promote.evaluate_on, _EVALUATE_ON) if promote else None
    return Facts(**facts, dataset=dataset, judged_on=judged_on)


def _of_the_spec(spec: TrainJob) -> dict[str, Any]:
    places = {"family": ("model", "family"), "framework": ("model", "framework")}
    refuse(supported.objection(spec.kind, spec.model.family, spec.model.framework, places))
    return {"family": spec.model.family, "model": spec.model.model_dump()}


def _of_the_model(service: Service, spec: FinetuneJob | BatchInferJob | EvaluateJob, owner_id: str) -> dict[str, Any]:
    with read(service.engine) as conn:
        model = models.resolve(conn, spec.model_ref, owner_id)
        found: dict[str, Any] = {"family": model.family}
        if not FAMILIES.is_builtin(model.family):
            found["made_by"] = models.maker_of(conn, model.job_id)
        if isinstance(spec, FinetuneJob):
            found["model"] = models.spec_of(conn, model.job_id)
        _check_family(spec, model.family)
        if isinstance(spec, EvaluateJob) and FAMILIES[model.family].classifies:
            found["classes"] = models.classes_of(conn, model.job_id)
    return found


def _check_family(spec: FinetuneJob | BatchInferJob | EvaluateJob, family: str) -> None:
    """Check the fields that depend on the model's family, which comes from the registry."""
    in_inference = isinstance(spec, BatchInferJob)
    framework = spec.inference.framework if isinstance(spec, BatchInferJob) else spec.framework
    place = ("inference", "framework") if in_inference else ("framework",)
    places: dict[str, tuple[str, ...]] = {"family": ("model_ref",), "framework": place}
    refuse(supported.objection(spec.kind, family, framework, places))
    if isinstance(spec, FinetuneJob):
        refuse(check_promotion(family, spec.promote))
    if isinstance(spec, BatchInferJob):
        refuse(check_inference(family, spec.inference))


def refuse(objection: FieldError | None) -> None:
    """Raise InvalidRequest for the field that a check objects to."""
    if objection:
        raise InvalidRequest.field(objection.loc, objection.msg)


def dataset_version(service: Service, name: str, place: tuple[str, ...]) -> DatasetVersion | None:
    """Return the current version of `name`; None for a built-in data set that a worker will register.

    Raises InvalidRequest for the field `place`.
    """
    try:
        return _resolved(service, name)
    except NotFound as error:
        raise InvalidRequest.field(place, error.detail) from None


def _resolved(service: Service, name: str) -> DatasetVersion | None:
    try:
        with read_one(service.engine) as conn:
            return registry.resolve(conn, name)
    except NotFound:
        if name not in BUILTIN:
            raise
        if name not in AT_ONCE:
            _require_available(service, name)
            return None
    return registry.ensure_builtin(service.engine, service.settings, name)


def _require_available(service: Service, name: str) -> None:
    if builtins.availability(service.settings, name) == "unavailable":
        why = "is not registered, its files are not on this host, and NIGHTSHIFT_DATASET_DOWNLOADS is never"
        raise NotFound(f"{name} {why}. {builtins.way_out(service.settings, name)}")


# -- completion -----------------------------------------------------------------------------------


def _with_fixed_evaluation(spec: AnyJob, judged_on: DatasetVersion | None) -> AnyJob:
    """Fix the version of `promote.evaluate_on`, so that all candidates are evaluated on the same rows."""
    if not isinstance(spec, TrainJob | FinetuneJob | RunJob) or spec.promote is None or judged_on is None:
        return spec
    fixed = f"{judged_on.name}@{judged_on.version}"
    return spec.model_copy(update={"promote": spec.promote.model_copy(update={"evaluate_on": fixed})})


# -- repeated submissions -------------------------------------------------------------------------


def check_idempotency_key(key: str | None, longest: int = MAX_KEY) -> None:
    """Raise InvalidRequest for a key that is empty, too long or not printable ASCII."""
    if key is not None and not (1 <= len(key) <= longest and all("!" <= char <= "~" for char in key)):
        raise InvalidRequest.field(
            ("Idempotency-Key",), f"use 1 to {longest} printable ASCII characters without spaces"
        )


def hash_of(data: Any) -> str:
    """Return a hash of a body that ignores white space and the order of keys."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
