"""Request bodies of the model registry (/v1/models)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from shared.specs.base import Label, Name, Spec
from shared.specs.edits import Notes

Reason = Annotated[Label | None, Field(description="Recorded in the audit log.")]


def _no_number(alias: str) -> str:
    if alias.isdigit():
        raise ValueError("must not be a number: numbers refer to versions")
    return alias


Alias = Annotated[Name, AfterValidator(_no_number)]


class AliasMove(Spec):
    """Point an alias at a version."""

    version: Annotated[int, Field(ge=1, le=999_999_999)]
    reason: Reason = None


class AliasMoveTo(AliasMove):
    """Point the named alias at a version."""

    alias: Alias = "champion"


class Rollback(Spec):
    """Move an alias back to its previous version."""

    alias: Name = "champion"
    reason: Reason = None


Description = Annotated[Notes | None, Field(description="Plain text of any number of lines; null or empty removes it.")]


class NewVersion(Spec):
    """A version from a job that has succeeded."""

    job: Annotated[str, Field(pattern=r"^[0-9a-f]{4,16}$", description="The job's id or a unique prefix of it.")]
    description: Description = None
    tags: Annotated[dict[Label, Label], Field(max_length=50)] = {}


class ModelPatch(Spec):
    """Change a model's description."""

    description: Description


class VersionPatch(Spec):
    """Change a version's description and tags; omitted fields stay."""

    description: Description = None
    tags: Annotated[
        dict[Label, Label | None], Field(max_length=50, description="Tags to set; null removes a tag.")
    ] = {}

    def changes(self) -> dict[str, Any]:
        """Return the fields that were given."""
        return self.model_dump(exclude_unset=True)
