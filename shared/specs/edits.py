"""Request bodies for existing jobs: a rerun with changes; a new name, notes, tags, priority."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from shared.specs.base import Label, Spec, printable

#: A field of a job: `training.epochs`.
FieldPath = Annotated[str, Field(max_length=300, pattern=r"^[^.]+(\.[^.]+){0,4}$")]


class Rerun(Spec):
    """A new job with the spec of an existing one, without its `name`, `register_as` and `promote`."""

    set: Annotated[
        dict[FieldPath, Any],
        Field(max_length=100, description='Changed fields by dotted path: `{"training.epochs": 10}`.'),
    ] = {}
    spec: Annotated[
        dict[str, Any] | None,
        Field(description="A complete spec in place of the existing one; `set` is applied to it."),
    ] = None


def _lines(value: str) -> str:
    text = value.replace("\r\n", "\n")
    for line in text.split("\n"):
        printable(line.replace("\t", " "))
    return text


Notes = Annotated[str, Field(max_length=20_000), AfterValidator(_lines)]


class JobPatch(Spec):
    """Changes of a job that do not affect its result. Omitted fields stay; null removes name or notes."""

    name: Label | None = None
    notes: Annotated[Notes | None, Field(description="Plain text of any number of lines.")] = None
    tags: Annotated[
        dict[Label, Label | None], Field(max_length=50, description="Tags to set; null removes a tag.")
    ] = {}
    priority: Annotated[int, Field(ge=0, le=9, description="Can be changed until the job runs.")] = 5

    def changes(self) -> dict[str, Any]:
        """Return the fields that were given."""
        return self.model_dump(exclude_unset=True)
