"""Programs that jobs of kind `run` may name, and the check of such a job."""

from __future__ import annotations

import json
from collections.abc import Container
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from api.services.spec_errors import invalid_spec
from nightshift.entry_points import Installed, missing, names_of
from nightshift.errors import FieldError, InvalidRequest
from nightshift.names import data_of
from nightshift.plugins import installed_programs
from nightshift.programs import Program
from shared.datasets.builtins import BUILTIN_KIND
from shared.datasets.models import DatasetVersion
from shared.fleet.conformance import graded
from shared.fleet.plugins import program_plugin
from shared.settings import Settings
from shared.specs.jobs import RunJob
from shared.specs.promotion import Promotion


@lru_cache(maxsize=8)
def _installed(setting: str) -> dict[str, Installed[Program]]:
    """Return the allowed programs. Packages are looked up once: an upgraded one is seen after a restart."""
    return installed_programs(names_of(setting))


def views(settings: Settings, green: Container[tuple[str, str]] = ()) -> list[dict[str, Any]]:
    """Return the allowed programs as in GET /v1/programs, also those that cannot be used.

    `green`: what the conformance kit has found to be exact (`shared.fleet.conformance.green`).
    """
    found = _installed(settings.programs)
    absent = [_view(name, None, green) for name in missing(names_of(settings.programs), found)]
    return [*(_view(name, one, green) for name, one in found.items()), *absent]


def _view(name: str, found: Installed[Program] | None, green: Container[tuple[str, str]]) -> dict[str, Any]:
    program = found.declared if found else None
    return {
        "name": name,
        "package": found.package if found else None,
        "description": program.description if program else "",
        "framework": program.framework if program else None,
        "dataset_kinds": list(program.dataset_kinds) if program else [],
        "promise": _promise(found, program, green) if found and program else None,
        "metrics": _metrics(program) if program else {},
        "evaluates": program is not None and program.evaluate is not None,
        "params_schema": program.params.model_json_schema() if program else None,
        "error": found.error if found else "no installed package has a program of this name",
    }


def _promise(found: Installed[Program], program: Program, green: Container[tuple[str, str]]) -> str:
    """Return what a resumed run is worth: `exact` only if the conformance kit has shown it for this package."""
    return graded(program.promise, (program_plugin(program.name), found.record_sha256) in green)


def _metrics(program: Program) -> dict[str, dict[str, Any]]:
    return {name: {"label": metric.label, "better": metric.better} for name, metric in program.metrics.items()}


def usable(settings: Settings, name: str) -> Program:
    """Return a program. Raises InvalidRequest for one that is not allowed, not installed or cannot be used."""
    found = _installed(settings.programs).get(name)
    if found is not None and found.declared is not None:
        return found.declared
    if found is not None:
        raise InvalidRequest.field(("program",), f"cannot be used: {found.error}")
    known = ", ".join(one.name for one in _installed(settings.programs).values() if one.declared) or "none"
    message = f"there is no program {name!r}; programs: {known}. An operator installs them (NIGHTSHIFT_PROGRAMS)"
    raise InvalidRequest.field(("program",), message)


def objection(
    program: Program, spec: RunJob, dataset: DatasetVersion | None, judged_on: DatasetVersion | None
) -> FieldError | None:
    """Return why the program cannot run the job, or None.

    `dataset` and `judged_on` (of `promote`) are None if the job names none, or one that is not registered yet.
    """
    if spec.framework not in (None, program.framework):
        wanted = program.framework or "no framework"
        return FieldError(("framework",), f"{program.name} needs {wanted}; leave it out")
    return _dataset_objection(program, spec, dataset) or _promotion_objection(program, spec.promote, judged_on)


def _dataset_objection(program: Program, spec: RunJob, dataset: DatasetVersion | None) -> FieldError | None:
    reads = data_of(*program.dataset_kinds)
    if spec.dataset is None:
        return FieldError(("dataset",), f"is required: {program.name} reads {reads}") if reads else None
    if not reads:
        return FieldError(("dataset",), f"{program.name} reads no data set; leave it out")
    found = dataset.summary["kind"] if dataset else BUILTIN_KIND
    if found not in program.dataset_kinds:
        return FieldError(("dataset",), f"holds {data_of(found)}; {program.name} reads {reads}")
    return None


def _promotion_objection(
    program: Program, promote: Promotion | None, judged_on: DatasetVersion | None
) -> FieldError | None:
    """Return why the program's models cannot be compared as asked, or None."""
    if promote is None:
        return None
    if program.evaluate is None:
        return FieldError(("promote",), f"{program.name} has no function to evaluate models with; leave it out")
    senses = {name: metric.better for name, metric in program.metrics.items() if metric.better}
    better = senses.get(promote.metric)
    if better is None:
        known = ", ".join(senses) or "none"
        return FieldError(
            ("promote", "metric"), f"{program.name} is not judged by {promote.metric!r}; it is by {known}"
        )
    if promote.mode not in (None, better):
        return FieldError(("promote", "mode"), f"of {promote.metric} the better one is the {better}; leave mode out")
    if promote.confidence is not None:
        return FieldError(("promote", "confidence"), "a program has no scores per example to resample; omit it")
    return _evaluation_objection(program, promote, judged_on)


def _evaluation_objection(program: Program, promote: Promotion, judged_on: DatasetVersion | None) -> FieldError | None:
    """Return why the program's models cannot be evaluated on `promote.evaluate_on`, or None."""
    place, reads = ("promote", "evaluate_on"), data_of(*program.dataset_kinds)
    if judged_on is None:
        return FieldError(place, f"{promote.evaluate_on!r} has no version yet: the first job that names it makes one")
    if not reads:
        return FieldError(place, f"{program.name} reads no data set")
    if (kind := judged_on.summary["kind"]) not in program.dataset_kinds:
        return FieldError(place, f"holds {data_of(kind)}; {program.name} is judged on {reads}")
    return None


def completed(program: Program, spec: RunJob) -> RunJob:
    """Return the job with the parameters' defaults filled in. Raises InvalidRequest for each wrong parameter."""
    try:
        params = program.params.model_validate_json(json.dumps(spec.params))
    except ValidationError as error:
        wrong = invalid_spec(error.errors(include_url=False, include_input=False), program.params, spec.params)
        errors = [FieldError(("params", *one.loc), one.msg) for one in wrong.errors]
        raise InvalidRequest(f"params: {wrong.detail}", errors) from None
    return spec.model_copy(update={"params": params.model_dump(mode="json"), "framework": program.framework})
