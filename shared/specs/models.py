"""What may be asked of the model registry: bodies of the routes below /v1/models."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from shared.specs.base import Label, Name, Spec
from shared.specs.edits import Notes

Reason = Annotated[Label | None, Field(description="Kept in the audit.")]


def _no_number(alias: str) -> str:
    if alias.isdigit():
        raise ValueError("must not be a number: those name versions")
    return alias


Alias = Annotated[Name, AfterValidator(_no_number)]


class AliasMove(Spec):
    version: Annotated[int, Field(ge=1, le=999_999_999)]
    reason: Reason = None


class AliasMoveTo(AliasMove):
    """The same where no address says which alias."""

    alias: Alias = "champion"


class Rollback(Spec):
    alias: Name = "champion"
    reason: Reason = None


Description = Annotated[Notes | None, Field(description="Plain text of any number of lines; null or empty: none.")]


class NewVersion(Spec):
    """A version from a job that has succeeded."""

    job: Annotated[
        str, Field(pattern=r"^[0-9a-f]{4,16}$", description="Its id, or the beginning while that is unique.")
    ]
    description: Description = None
    tags: Annotated[dict[Label, Label], Field(max_length=50)] = {}


class ModelPatch(Spec):
    description: Description


class VersionPatch(Spec):
    """What is left out stays."""

    description: Description = None
    tags: Annotated[
        dict[Label, Label | None], Field(max_length=50, description="Those named are set, or with null removed.")
    ] = {}

    def changes(self) -> dict[str, Any]:
        """Those that were given."""
        return self.model_dump(exclude_unset=True)
