"""From a body to an accepted job: is it a spec, does what it names exist, can any worker run it, is it written.

The doorbell is rung after COMMIT, by another thread: a Redis that is down or hangs costs the caller nothing (the
dispatcher rings again).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api.dependencies import Service
from api.services import dataset_fit
from api.services.job_spec import Spec, check_idempotency_key, hash_of, parse_run_at, parse_spec, refuse
from nightshift.errors import InvalidRequest, NotFound
from nightshift.states import JobState
from shared import tracing
from shared.datasets import builtins, registry
from shared.datasets.builtins import AT_ONCE, BUILTIN
from shared.datasets.models import DatasetVersion
from shared.db.engine import read
from shared.jobs.transitions import NewJob, Submitted
from shared.models import ownership
from shared.models import registry as models
from shared.models.registry import ResolvedModel
from shared.specs import supported
from shared.specs.families import FAMILIES
from shared.specs.jobs import (
    BatchInferJob,
    EvaluateJob,
    FinetuneJob,
    TrainJob,
    check_inference,
    check_promotion,
    check_training,
)

#: A complete spec -> `copied_from`.
Like = Callable[[dict[str, Any]], dict[str, Any]]

# -- does what it names exist ---------------------------------------------------------------------


_BUILTIN_KIND = "image"
#: Characters of a kind that a trace shows; the API has not checked it yet.
MAX_TRACED = 20


@dataclass(frozen=True)
class References:
    """What a spec names, as SQL has it."""

    family: str
    #: None where the job reads none, or one that a worker has yet to register.
    dataset: DatasetVersion | None = None
    #: What `model_ref` leads to.
    model: ResolvedModel | None = None


def checked(service: Service, data: Any, owner_id: str) -> tuple[Spec, str]:
    """The complete spec of a job that can run as far as SQL knows, and its family. Raises InvalidRequest."""
    spec = parse_spec(data)
    found = _references(service, spec, owner_id)
    if isinstance(spec, FinetuneJob):
        spec = parse_spec(_with_training_defaults(data, found.family))
    _check_fit(service, spec, found)
    return _freeze_evaluation(service, spec, found), found.family


def _references(service: Service, spec: Spec, owner_id: str) -> References:
    """Raises InvalidRequest for the first thing that is not there, is another owner's or of another family."""
    if isinstance(spec, TrainJob | FinetuneJob):
        with read(service.engine) as conn:
            ownership.refuse_register_as(conn, spec.register_as, owner_id)
    if isinstance(spec, TrainJob):
        return References(spec.model.family, _dataset(service, spec, spec.dataset, spec.model.family))
    with read(service.engine) as conn:
        model = models.resolve(conn, spec.model_ref, owner_id)
    _check_family(spec, model.family)
    dataset = _dataset(service, spec, spec.dataset, model.family) if spec.dataset is not None else None
    return References(model.family, dataset, model)


def _freeze_evaluation(service: Service, spec: Spec, found: References) -> Spec:
    """The spec with the version of `promote.evaluate_on` in it: every candidate is judged on the same rows, whatever is
    appended later. Raises InvalidRequest where there is no such version, or it holds what the model cannot be judged on."""
    if not isinstance(spec, TrainJob | FinetuneJob) or spec.promote is None:
        return spec
    family = found.family
    place, ref = ("promote", "evaluate_on"), spec.promote.evaluate_on
    try:
        version = _version(service, ref)
    except NotFound as error:
        raise InvalidRequest.field(place, error.detail) from None
    if version is None:
        raise InvalidRequest.field(place, f"{ref!r} has no version yet: the first job that names it makes one")
    wanted = FAMILIES[family].dataset_kind
    if version.summary["kind"] != wanted:
        raise InvalidRequest.field(place, f"holds {version.summary['kind']} data; {family} is judged on {wanted} data")
    if family == "cnn" and found.dataset is not None:
        learned = found.dataset.summary["classes"]
        refuse(dataset_fit.class_objection(learned, version, place, "Name a data set of the same classes"))
    frozen = spec.promote.model_copy(update={"evaluate_on": f"{version.name}@{version.version}"})
    return spec.model_copy(update={"promote": frozen})


def _dataset(service: Service, spec: Spec, name: str, family: str) -> DatasetVersion | None:
    try:
        version = _version(service, name)
    except NotFound as error:
        raise InvalidRequest.field(("dataset",), error.detail) from None
    if not (isinstance(spec, BatchInferJob) and spec.inference.task == "generate"):
        _check_kind(family, version.summary["kind"] if version else _BUILTIN_KIND)
    return version


def _version(service: Service, name: str) -> DatasetVersion | None:
    """None for a built-in set that takes more than a moment: the first worker that needs it registers it. Raises NotFound,
    also where that cannot be."""
    try:
        with read(service.engine) as conn:
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
        why = "is not registered, its files are not here, and NIGHTSHIFT_DATASET_DOWNLOADS is never"
        raise NotFound(f"{name} {why}. {builtins.way_out(service.settings, name)}")


def _check_kind(family: str, kind: str) -> None:
    wanted = FAMILIES[family].dataset_kind
    if kind != wanted:
        raise InvalidRequest.field(("dataset",), f"holds {kind} data; {family} learns from {wanted} data")


def _check_fit(service: Service, spec: Spec, found: References) -> None:
    """Raises InvalidRequest for what the runner would find to be impossible, as far as SQL knows."""
    if found.dataset is None:
        return
    if isinstance(spec, TrainJob | FinetuneJob):
        refuse(dataset_fit.training_objection(spec, _model_of(service, spec, found), found.dataset))
    elif isinstance(spec, EvaluateJob) and found.family == "cnn" and found.model:
        with read(service.engine) as conn:
            known = models.classes_of(conn, found.model.job_id)
        if known is not None:
            refuse(
                dataset_fit.class_objection(known, found.dataset, ("dataset",), "Fine-tune it on this data set first")
            )


def _model_of(service: Service, spec: TrainJob | FinetuneJob, found: References) -> Mapping[str, Any] | None:
    if isinstance(spec, TrainJob):
        return spec.model.model_dump()
    if found.model is None:
        return None
    with read(service.engine) as conn:
        return models.spec_of(conn, found.model.job_id)


def _check_family(spec: FinetuneJob | BatchInferJob | EvaluateJob, family: str) -> None:
    """What can be asked of a model depends on its family, which only the registry knows."""
    in_inference = isinstance(spec, BatchInferJob)
    framework = spec.inference.framework if isinstance(spec, BatchInferJob) else spec.framework
    place = ("inference", "framework") if in_inference else ("framework",)
    places: dict[str, tuple[str, ...]] = {"family": ("model_ref",), "framework": place}
    refuse(supported.objection(spec.kind, family, framework, places))
    if isinstance(spec, FinetuneJob):
        refuse(check_training(family, spec.training))
        refuse(check_promotion(family, spec.promote))
    if isinstance(spec, BatchInferJob):
        refuse(check_inference(family, spec.inference))


def _with_training_defaults(data: Any, family: str) -> Any:
    """A fine-tuning trains as its family does by default (a GAN's rate is not a classifier's) where nothing is said."""
    defaults = FAMILIES[family].training_for(None)
    return {**data, "training": {**defaults, **data.get("training", {})}}


# -- is it written --------------------------------------------------------------------------------


def accept(
    service: Service,
    owner_id: str,
    data: Any,
    key: str | None,
    headers: Mapping[str, str] | None = None,
    *,
    like: Like | None = None,
) -> tuple[Spec, Submitted]:
    """Check and write a job; when this returns it is durable, and its doorbell is on its way. `headers` may carry the
    caller's trace; `like` makes of the complete spec what the job remembers of the one it was copied from."""
    kind = data.get("kind") if isinstance(data, dict) else None
    with tracing.submitting(headers or {}, str(kind)[:MAX_TRACED]) as traced:
        return _accept(service, owner_id, data, key, traced, like)


def _accept(
    service: Service, owner_id: str, data: Any, key: str | None, traced: dict[str, Any], like: Like | None
) -> tuple[Spec, Submitted]:
    check_idempotency_key(key)
    spec, family = checked(service, data, owner_id)
    run_at = parse_run_at(spec.run_at)
    pinned = traced if isinstance(spec, TrainJob) else {**traced, "family": family}
    new = NewJob(
        owner_id=owner_id,
        spec=spec,
        body_hash=hash_of(data),
        idempotency_key=key,
        run_at=run_at,
        pinned=pinned,
        copied_from=like(spec.model_dump(mode="json")) if like else None,
    )
    submitted = service.submissions.submit(new)
    if submitted.created and submitted.state is JobState.QUEUED:
        service.ring(spec.resources.device, submitted.job_id)
    return spec, submitted
