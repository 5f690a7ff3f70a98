"""Errors of the client and the API, and the root of all errors that Nightshift raises on purpose.

NightshiftError
├── RequestError                the caller can correct it; becomes a problem+json
│   ├── InvalidRequest   422    a field is wrong: names field, value and the way out
│   ├── MalformedRequest 400    cannot be parsed (JSON, cursor)
│   ├── Unauthorized     401
│   ├── Forbidden        403    it may be seen and used, but belongs to another owner
│   ├── NotFound         404
│   ├── Conflict         409    the state does not allow it (cancel of a final job)
│   ├── TooLarge         413
│   ├── UnsupportedMedia 415
│   └── StorageFull      507    the server's disk has no room for it
├── Unavailable          503    a part that is needed does not answer
└── ConfigurationError          the settings cannot work; says which and what to do

The errors of the server's inside are in `shared.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class NightshiftError(Exception):
    """Root of everything raised on purpose."""


# -- what a user asked for ------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldError:
    """One wrong field: `loc` is the path to it (`("training", "epochs")`), `msg` names the way out."""

    loc: tuple[str | int, ...]
    msg: str


class RequestError(NightshiftError):
    """Root of errors that the caller can correct; `status`, `slug` and `title` make the problem document (RFC 9457)."""

    status: ClassVar[int] = 400
    slug: ClassVar[str] = "bad-request"
    title: ClassVar[str] = "Bad request"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)


class InvalidRequest(RequestError):
    status, slug, title = 422, "invalid-request", "Invalid request"

    @classmethod
    def field(cls, loc: tuple[str | int, ...], msg: str) -> InvalidRequest:
        return cls(f"{'.'.join(map(str, loc))}: {msg}", [FieldError(loc, msg)])


class MalformedRequest(RequestError):
    status, slug, title = 400, "malformed-request", "Malformed request"


class Unauthorized(RequestError):
    status, slug, title = 401, "unauthorized", "A valid API key is required"


class Forbidden(RequestError):
    status, slug, title = 403, "forbidden", "This belongs to another owner"


class NotFound(RequestError):
    status, slug, title = 404, "not-found", "Not found"

    @classmethod
    def of(cls, noun: str, name: str) -> NotFound:
        return cls(f"There is no {noun} {name!r}.")


class Conflict(RequestError):
    status, slug, title = 409, "conflict", "The current state does not allow this"


class TooLarge(RequestError):
    status, slug, title = 413, "too-large", "Too large"


class UnsupportedMedia(RequestError):
    status, slug, title = 415, "unsupported-media-type", "Unsupported content type"


class StorageFull(RequestError):
    status, slug, title = 507, "storage-full", "The storage is full"


# -- what does not answer -------------------------------------------------------------------------


class Unavailable(NightshiftError):
    """A part we need does not answer; the API says 503 and never a false 2xx."""


class ConfigurationError(NightshiftError):
    """Raised where the settings cannot work; the message says which and what to do."""
