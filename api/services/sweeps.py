"""Create sweeps, after checking that every bound of the space gives a job that POST /v1/jobs would accept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.dependencies import Service
from api.http.json_body import MAX_ERRORS
from api.services import submission
from api.services.spec_errors import parse_spec
from nightshift import metrics
from nightshift.errors import FieldError, InvalidRequest
from nightshift.metrics import Sense
from shared.db.engine import read, write
from shared.models import ownership, registry
from shared.schedules import queries as schedule_queries
from shared.specs.families import FAMILIES
from shared.specs.jobs import AnyJob, FinetuneJob, RunJob, TrainJob
from shared.specs.sweeps import MAX_TRIALS, OnBest, Pruner, SweepSpec
from shared.sweeps import space, transitions
from shared.sweeps.transitions import NewSweep

#: Fields of a job that a sweep decides itself, and the way out.
_NOT_IN_A_SWEEP = {
    "register_as": "is not allowed in a sweep's job; on_best.register_as registers the model of the best trial",
    "promote": "is not allowed in a sweep's job; on_best.promote promotes the model of the best trial",
    "run_at": "is not allowed in a sweep, which starts its trials one after the other",
    "after": "is not allowed in a sweep, which starts its trials one after the other",
}
#: Prefixes of a metric's name, and the part of the data that its curve is measured on.
_TEST, _VALIDATION = "test_", "val_"


@dataclass(frozen=True)
class _Checked:
    """A job of the sweep that is valid: its complete spec, and what is pinned of its model."""

    spec: TrainJob | FinetuneJob | RunJob
    pinned: dict[str, Any]


def create(service: Service, owner_id: str, spec: SweepSpec, body: Mapping[str, Any], key: str | None) -> str:
    """Create a sweep; return its id. Raises InvalidRequest."""
    submission.check_idempotency_key(key)
    for name, message in _NOT_IN_A_SWEEP.items():
        if spec.job.get(name):
            raise InvalidRequest.field(("job", name), message)
    space.refuse_unusable(spec.space)
    _refuse_sampler(spec)
    first, every = _checked_bounds(service, owner_id, spec)
    _refuse_other_families(first, every)
    direction = _direction(spec, first)
    pruner = _pruner(spec, first, every)
    values = {
        "name": spec.name,
        "job": _template(service, owner_id, spec, first),
        "pinned": first.pinned,
        "space": {path: one.model_dump(mode="json") for path, one in spec.space.items()},
        "metric": spec.objective.metric,
        "direction": direction,
        "trials": _trials(spec),
        "concurrency": spec.concurrency,
        "sampler": spec.sampler,
        "pruner": pruner,
        "seed": spec.seed,
        "on_best": _checked_on_best(service, owner_id, spec.on_best, first),
    }
    with write(service.engine) as conn:
        return transitions.create(conn, NewSweep(owner_id, submission.hash_of(body), key, values))


# -- the space ------------------------------------------------------------------------------------


def _refuse_sampler(spec: SweepSpec) -> None:
    numbers = [path for path, one in spec.space.items() if one.choices is None and not one.when]
    if spec.sampler == "cmaes" and len(numbers) < 2:
        message = "cmaes needs at least two numbers without a condition in the space; use tpe"
        raise InvalidRequest.field(("sampler",), message)
    if spec.sampler != "grid" and spec.trials is None:
        raise InvalidRequest.field(("trials",), f"is required with the sampler {spec.sampler}")


def _trials(spec: SweepSpec) -> int:
    """Return the number of trials. Raises InvalidRequest for more than a grid has points."""
    if spec.sampler != "grid":
        assert spec.trials is not None
        return spec.trials
    size = space.grid_size(spec.space)
    if spec.trials is None and size > MAX_TRIALS:
        raise InvalidRequest.field(("trials",), f"is required: the grid has more than {MAX_TRIALS} points")
    if spec.trials is not None and spec.trials > size:
        raise InvalidRequest.field(("trials",), f"{spec.trials} is more than the {size} points of the grid")
    return spec.trials or size


def _checked_bounds(service: Service, owner_id: str, spec: SweepSpec) -> tuple[_Checked, list[_Checked]]:
    """Check the job at every bound and choice of the space. Raises InvalidRequest that names each refused one."""
    errors: list[FieldError] = []
    found: list[_Checked] = []
    for path, place, values in space.bounds(spec.space):
        try:
            found.append(_checked_at(service, owner_id, spec, values))
        except InvalidRequest as refused:
            errors += [_moved(one, spec, path, place, values) for one in refused.errors]
    if errors:
        named = list(dict.fromkeys(errors))
        raise InvalidRequest(f"The space holds jobs that are refused; see errors ({len(named)}).", named[:MAX_ERRORS])
    return found[0], found


def _checked_at(service: Service, owner_id: str, spec: SweepSpec, values: Mapping[str, Any]) -> _Checked:
    body = space.assigned(spec.job, values)
    parsed = parse_spec(body)
    if not isinstance(parsed, TrainJob | FinetuneJob | RunJob):
        raise InvalidRequest.field(
            ("kind",), f"a sweep runs jobs of the kind train, finetune or run, not {parsed.kind}"
        )
    complete, pinned = submission.checked(service, parsed, owner_id)
    assert isinstance(complete, TrainJob | FinetuneJob | RunJob)
    stored = complete.model_dump(mode="json")
    for path in values:
        if not space.is_at(stored, path):
            raise InvalidRequest.field(tuple(path.split(".")), "the job has no such field")
    return _Checked(complete, pinned)


def _refuse_other_families(first: _Checked, every: list[_Checked]) -> None:
    """Raise InvalidRequest for models to choose from that are not of one family: a sweep pins one."""
    other = next((one for one in every if one.pinned != first.pinned), None)
    if other is not None:
        families = " and ".join(sorted({_family(first), _family(other)}))
        message = f"holds models of {families}; use those of one family that one version of its package made"
        raise InvalidRequest.field(("space", "model_ref"), message)


def _moved(error: FieldError, spec: SweepSpec, path: str, place: str | int, values: Mapping[str, Any]) -> FieldError:
    """Return an error of a job as one of the sweep: at the parameter that caused it, or in `job`."""
    where = ".".join(map(str, error.loc))
    if where == path or where.startswith(f"{path}."):
        at = ("choices", place) if isinstance(place, int) else (place,)
        return FieldError(("space", path, *at), f"{values[path]!r}: {error.msg}")
    causing = next((other for other in values if where == other or where.startswith(f"{other}.")), None)
    if causing is not None:
        return FieldError(("space", causing), f"{values[causing]!r}, with {path} {values[path]!r}: {error.msg}")
    return FieldError(("job", *error.loc), error.msg)


# -- objective, pruner, best ----------------------------------------------------------------------


def _family(first: _Checked) -> str:
    return first.spec.model.family if isinstance(first.spec, TrainJob) else str(first.pinned["family"])


def _direction(spec: SweepSpec, first: _Checked) -> Sense:
    metric = spec.objective.metric
    if not isinstance(first.spec, RunJob):
        family = FAMILIES[_family(first)]
        known = (*family.judged_by, *sorted(family.watchable))
        if metric not in known:
            message = f"{family.name} has no {metric!r}; it has {', '.join(known)}"
            raise InvalidRequest.field(("objective", "metric"), message)
    better = metrics.sense(metric)
    if spec.objective.direction is None and better is None:
        message = f"is required: nothing is known of {metric!r}; give max or min"
        raise InvalidRequest.field(("objective", "direction"), message)
    if better is not None and spec.objective.direction not in (None, better):
        message = f"of {metric} the better one is the {better}; leave direction out"
        raise InvalidRequest.field(("objective", "direction"), message)
    return spec.objective.direction or better or "max"


def _pruner(spec: SweepSpec, first: _Checked, every: list[_Checked]) -> dict[str, Any]:
    """Return the pruner with its curve and that curve's better side. Raises InvalidRequest."""
    pruner = spec.pruner
    if pruner.name == "none":
        return pruner.model_dump(mode="json")
    metric = _curve(spec, pruner, first)
    place = ("pruner", "metric")
    if metric.startswith(_VALIDATION) and any(_holds_out_nothing(one.spec) for one in every):
        raise InvalidRequest.field(place, f"{metric} needs training.validation_split above 0")
    same = metric == spec.objective.metric
    better = (spec.objective.direction if same else None) or metrics.sense(metric)
    if better is None:
        raise InvalidRequest.field(place, f"{metric!r} has no better side, so nothing can be pruned by it")
    return {**pruner.model_dump(mode="json"), "metric": metric, "direction": better}


def _curve(spec: SweepSpec, pruner: Pruner, first: _Checked) -> str:
    """Return the curve that the pruner compares. Raises InvalidRequest."""
    objective = spec.objective.metric
    if isinstance(first.spec, RunJob):
        return pruner.metric or objective
    curves = FAMILIES[_family(first)].watchable
    on_validation = f"{_VALIDATION}{objective.removeprefix(_TEST)}"
    metric = pruner.metric or (objective if objective in curves else on_validation)
    if metric not in curves:
        known = ", ".join(sorted(curves))
        message = f"{_family(first)} has no curve {metric!r} during training; use one of {known}"
        raise InvalidRequest.field(("pruner", "metric"), message)
    return metric


def _holds_out_nothing(spec: AnyJob) -> bool:
    return isinstance(spec, TrainJob | FinetuneJob) and spec.training.validation_split == 0


def _checked_on_best(service: Service, owner_id: str, on_best: OnBest, first: _Checked) -> dict[str, Any]:
    """Return what is done with the best trial; `promote.evaluate_on` gets the version of now.

    Raises InvalidRequest, and NotFound for the schedule.
    """
    stored = on_best.model_dump(mode="json")
    chosen = {"register_as": stored["register_as"], "promote": stored["promote"]}
    try:
        spec, _ = submission.checked(service, parse_spec({**first.spec.model_dump(mode="json"), **chosen}), owner_id)
        with read(service.engine) as conn:
            ownership.refuse_register_as(conn, on_best.register_as, owner_id)
    except InvalidRequest as error:
        wrong = [FieldError(("on_best", *one.loc), one.msg) for one in error.errors]
        raise InvalidRequest(error.detail, wrong) from None
    if on_best.schedule is not None:
        with read(service.engine) as conn:
            schedule_queries.find_id(conn, on_best.schedule, owner_id)
    return {**stored, "promote": spec.model_dump(mode="json")["promote"]}


# -- what is stored -------------------------------------------------------------------------------


def _template(service: Service, owner_id: str, spec: SweepSpec, first: _Checked) -> dict[str, Any]:
    """Return the job without the parameters; the versions of its data set and model are those of now.

    All trials are measured on the same data. What the parameters may change, such as defaults of an optimizer, is not
    filled in.
    """
    job = dict(spec.job)
    if first.spec.dataset is not None and "dataset" not in spec.space:
        version = submission.dataset_version(service, first.spec.dataset, ("job", "dataset"))
        if version is not None:
            job["dataset"] = f"{version.name}@{version.version}"
    if isinstance(first.spec, FinetuneJob) and "model_ref" not in spec.space:
        with read(service.engine) as conn:
            model = registry.resolve(conn, first.spec.model_ref, owner_id)
        job["model_ref"] = f"{model.name}@{model.version}" if model.name else f"job:{model.job_id}"
    if isinstance(first.spec, RunJob):
        job |= {"params": first.spec.params, "framework": first.spec.framework}
    return job
