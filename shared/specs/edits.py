"""Changes of existing jobs: run again with changes; edit name, notes, tags and priority."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from nightshift.families.fields import Spec
from shared.specs.base import Label, Patch, printable

#: A field of a job: `training.epochs`.
FieldPath = Annotated[str, Field(max_length=300, pattern=r"^[^.]+(\.[^.]+){0,4}$")]


class Rerun(Spec):
    """A copy of a job without its `name`, `register_as` and `promote`."""

    set: Annotated[
        dict[FieldPath, Any],
        Field(max_length=100, description='Changes by dotted path: `{"training.epochs": 10}`.'),
    ] = {}
    spec: Annotated[
        dict[str, Any] | None,
        Field(description="A complete spec instead of the job's; `set` is applied to it."),
    ] = None


def _lines(value: str) -> str:
    text = value.replace("\r\n", "\n")
    for line in text.split("\n"):
        printable(line.replace("\t", " "))
    return text


Notes = Annotated[str, Field(max_length=20_000), AfterValidator(_lines)]


class JobPatch(Patch):
    """Changes of a job; omitted fields stay, null removes name or notes."""

    name: Label | None = None
    notes: Annotated[Notes | None, Field(description="Plain text, any number of lines.")] = None
    tags: Annotated[
        dict[Label, Label | None], Field(max_length=50, description="Tags to set, or to remove with null.")
    ] = {}
    priority: Annotated[int, Field(ge=0, le=9, description="Only before the job runs.")] = 5
