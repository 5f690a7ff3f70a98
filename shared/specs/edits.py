"""What may be asked of a job that is there: to run again with changes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from shared.specs.base import Spec

#: A field of a job: `training.epochs`.
FieldPath = Annotated[str, Field(max_length=300, pattern=r"^[^.]+(\.[^.]+){0,4}$")]


class Rerun(Spec):
    """A new job like one that was there."""

    set: Annotated[
        dict[FieldPath, Any],
        Field(max_length=100, description='What differs, by dotted path: `{"training.epochs": 10}`.'),
    ] = {}
    spec: Annotated[
        dict[str, Any] | None,
        Field(description="The whole spec, where more than a few fields differ; `set` goes on top."),
    ] = None
