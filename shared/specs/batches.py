"""Several jobs in one request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from nightshift.families.fields import Spec
from shared.specs.jobs import job_spec_adapter

#: Jobs in a request. Too low: many requests. Too high: one transaction holds SQLite's write lock for seconds.
MAX_JOBS = 1_000


class _SchemaOfJobs:
    """The JSON schema of a job; each is parsed by itself, so that a wrong one need not refuse the others."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(job_spec_adapter.core_schema)


class JobBatch(Spec):
    """Jobs to submit together."""

    jobs: Annotated[list[Annotated[dict[str, Any], _SchemaOfJobs]], Field(min_length=1, max_length=MAX_JOBS)]
    mode: Annotated[
        Literal["all", "each"],
        Field(description="`all`: one refused job refuses all. `each`: the others are submitted."),
    ] = "all"
