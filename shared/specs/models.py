"""What may be asked of the model registry: bodies of PUT /v1/models/{name}/aliases/{alias} and POST …/rollback."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from shared.specs.base import Label, Name, Spec

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
