"""Request bodies of the routes below /v1/models."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from nightshift.families.fields import Spec
from shared.specs.base import Label, Name, Patch
from shared.specs.edits import Notes

Reason = Annotated[Label | None, Field(description="Kept in the model's history.")]


def _no_number(alias: str) -> str:
    if alias.isdigit():
        raise ValueError("must not be a number; numbers are versions")
    return alias


Alias = Annotated[Name, AfterValidator(_no_number)]


class AliasMove(Spec):
    """Point an alias at a version."""

    version: Annotated[int, Field(ge=1, le=999_999_999)]
    reason: Reason = None


class AliasMoveTo(AliasMove):
    """The same with the alias in the body."""

    alias: Alias = "champion"


class Rollback(Spec):
    """Move an alias back to its previous version."""

    alias: Name = "champion"
    reason: Reason = None


Description = Annotated[Notes | None, Field(description="Plain text, any number of lines; null or empty: none.")]


class NewVersion(Spec):
    """A new version from a succeeded job."""

    job: Annotated[
        str, Field(pattern=r"^[0-9a-f]{4,16}$", description="The job's id, or its beginning while that is unique.")
    ]
    description: Description = None
    tags: Annotated[dict[Label, Label], Field(max_length=50)] = {}


class ModelPatch(Spec):
    """Change a model's description."""

    description: Description


class VersionPatch(Patch):
    """Omitted fields stay."""

    description: Description = None
    tags: Annotated[
        dict[Label, Label | None], Field(max_length=50, description="Tags to set, or to remove with null.")
    ] = {}
