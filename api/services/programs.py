"""Programs that jobs of kind `run` may name, and the check of such a job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from api.services.spec_errors import invalid_spec
from nightshift.errors import FieldError, InvalidRequest
from nightshift.names import data_of
from nightshift.plugins import InstalledProgram, installed_programs, missing, names_of
from nightshift.programs import Program
from shared.datasets.builtins import BUILTIN_KIND
from shared.settings import Settings
from shared.specs.jobs import RunJob


@lru_cache(maxsize=8)
def _installed(setting: str) -> dict[str, InstalledProgram]:
    """Return the allowed programs. Packages are looked up once: an upgraded one is seen after a restart."""
    return installed_programs(names_of(setting))


def views(settings: Settings) -> list[dict[str, Any]]:
    """Return the allowed programs as in GET /v1/programs, also those that cannot be used."""
    found = _installed(settings.programs)
    absent = [_view(name, None) for name in missing(names_of(settings.programs), found)]
    return [*(_view(name, one) for name, one in found.items()), *absent]


def problems(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with the allowed programs, for `nightshift check`."""
    for view in views(settings):
        if view["error"]:
            yield f"{view['name']}: {view['error']}"


def _view(name: str, found: InstalledProgram | None) -> dict[str, Any]:
    program = found.program if found else None
    return {
        "name": name,
        "package": found.package if found else None,
        "description": program.description if program else "",
        "framework": program.framework if program else None,
        "dataset_kinds": list(program.dataset_kinds) if program else [],
        "promise": program.promise if program else None,
        "params_schema": program.params.model_json_schema() if program else None,
        "error": found.error if found else "no installed package has a program of this name",
    }


def usable(settings: Settings, name: str) -> Program:
    """Return a program. Raises InvalidRequest for one that is not allowed, not installed or cannot be used."""
    found = _installed(settings.programs).get(name)
    if found is not None and found.program is not None:
        return found.program
    if found is not None:
        raise InvalidRequest.field(("program",), f"cannot be used: {found.error}")
    known = ", ".join(one.name for one in _installed(settings.programs).values() if one.program) or "none"
    message = f"there is no program {name!r}; programs: {known}. An operator installs them (NIGHTSHIFT_PROGRAMS)"
    raise InvalidRequest.field(("program",), message)


def objection(program: Program, spec: RunJob, kind: str | None) -> FieldError | None:
    """Return why the program cannot run the job, or None. `kind`: of the data set, None if it is not registered yet."""
    if spec.framework not in (None, program.framework):
        wanted = program.framework or "no framework"
        return FieldError(("framework",), f"{program.name} needs {wanted}; leave it out")
    return _dataset_objection(program, spec, kind)


def _dataset_objection(program: Program, spec: RunJob, kind: str | None) -> FieldError | None:
    reads = data_of(*program.dataset_kinds)
    if spec.dataset is None:
        return FieldError(("dataset",), f"is required: {program.name} reads {reads}") if reads else None
    if not reads:
        return FieldError(("dataset",), f"{program.name} reads no data set; leave it out")
    found = kind or BUILTIN_KIND
    if found not in program.dataset_kinds:
        return FieldError(("dataset",), f"holds {data_of(found)}; {program.name} reads {reads}")
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
