"""What may be asked of a job that is there: to run again with changes, and to carry another name, notes, tags, priority."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from shared.specs.base import Label, Spec, printable

#: A field of a job: `training.epochs`.
FieldPath = Annotated[str, Field(max_length=300, pattern=r"^[^.]+(\.[^.]+){0,4}$")]


class Rerun(Spec):
    """A new job like one that was there, without its `name`, `register_as` and `promote`."""

    set: Annotated[
        dict[FieldPath, Any],
        Field(max_length=100, description='What differs, by dotted path: `{"training.epochs": 10}`.'),
    ] = {}
    spec: Annotated[
        dict[str, Any] | None,
        Field(description="The whole spec, where more than a few fields differ; `set` goes on top."),
    ] = None


def _lines(value: str) -> str:
    text = value.replace("\r\n", "\n")
    for line in text.split("\n"):
        printable(line.replace("\t", " "))
    return text


Notes = Annotated[str, Field(max_length=20_000), AfterValidator(_lines)]


class JobPatch(Spec):
    """What to change of a job beside its computation; fields that are left out stay, null takes name or notes away."""

    name: Label | None = None
    notes: Annotated[Notes | None, Field(description="Plain text of any number of lines.")] = None
    tags: Annotated[
        dict[Label, Label | None], Field(max_length=50, description="Those named are set, or with null removed.")
    ] = {}
    priority: Annotated[int, Field(ge=0, le=9, description="While the job does not run yet.")] = 5

    def changes(self) -> dict[str, Any]:
        """Those that were given."""
        return self.model_dump(exclude_unset=True)
