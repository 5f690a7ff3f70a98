"""From a body to an accepted job: is it a spec, does what it names exist, can any worker run it, is it written.

The doorbell is rung after COMMIT, by another thread: a Redis that is down or hangs costs the caller nothing (the
dispatcher rings again).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from api.deps import Service
from api.specs import Spec, check_idempotency_key, hash_of, parse_run_at, parse_spec, refuse
from shared import tracing
from shared.datasets import registry
from shared.datasets.builtins import BUILTIN
from shared.datasets.models import DatasetVersion
from shared.db.engine import read
from shared.errors import InvalidRequest, NotFound
from shared.jobs.states import JobState
from shared.jobs.transitions import NewJob, Submitted
from shared.models import owners
from shared.models import registry as models
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


#: Built-in data sets that come with the package: registered by whoever names them first, in milliseconds.
AT_ONCE = frozenset({"digits"})
_BUILTIN_KIND = "image"
#: Characters of a kind that a trace shows; the API has not checked it yet.
MAX_TRACED = 20


def check_references(service: Service, spec: Spec, owner_id: str) -> str:
    """The family of the job's model. Raises InvalidRequest for the first thing that cannot be."""
    if isinstance(spec, TrainJob | FinetuneJob):
        with read(service.engine) as conn:
            owners.refuse_register_as(conn, spec.register_as, owner_id)
    if isinstance(spec, TrainJob):
        family: str = spec.model.family
    else:
        with read(service.engine) as conn:
            family = models.resolve(conn, spec.model_ref, owner_id).family
        _check_family(spec, family)
    if spec.dataset is not None:
        _check_dataset(service, spec, spec.dataset, family)
    return family


def freeze_evaluation(service: Service, spec: Spec, family: str) -> Spec:
    """The spec with the version of `promote.evaluate_on` in it: every candidate is judged on the same rows, whatever is
    appended later. Raises InvalidRequest where there is no such version, or it holds what the family does not read."""
    if not isinstance(spec, TrainJob | FinetuneJob) or spec.promote is None:
        return spec
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
    frozen = spec.promote.model_copy(update={"evaluate_on": f"{version.name}@{version.version}"})
    return spec.model_copy(update={"promote": frozen})


def _check_dataset(service: Service, spec: Spec, name: str, family: str) -> None:
    try:
        version = _version(service, name)
    except NotFound as error:
        raise InvalidRequest.field(("dataset",), error.detail) from None
    if not (isinstance(spec, BatchInferJob) and spec.inference.task == "generate"):
        _check_kind(family, version.summary["kind"] if version else _BUILTIN_KIND)
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


def _check_kind(family: str, kind: str) -> None:
    wanted = FAMILIES[family].dataset_kind
    if kind != wanted:
        raise InvalidRequest.field(("dataset",), f"holds {kind} data; {family} learns from {wanted} data")


def _check_batch(spec: TrainJob | FinetuneJob, summary: dict[str, Any]) -> None:
    count = summary["splits"]["train"].get("count")
    if summary["kind"] != "image" or not isinstance(count, int):
        return  # of a text, the windows are counted once its tokens are known
    left = count - int(count * spec.training.validation_split)
    if spec.training.batch_size > left:
        raise InvalidRequest.field(
            ("training", "batch_size"), f"is larger than the training set: at most {left} (after validation_split)"
        )


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
    spec = parse_spec(data)
    run_at = parse_run_at(spec.run_at)
    family = check_references(service, spec, owner_id)
    if isinstance(spec, FinetuneJob):
        spec = parse_spec(_with_training_defaults(data, family))
    spec = freeze_evaluation(service, spec, family)
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
