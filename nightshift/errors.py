"""Errors of the client and the API, and the base class of all errors that Nightshift raises.

NightshiftError
├── RequestError                the request cannot be served; becomes a problem+json
│   ├── InvalidRequest   422    a field is wrong; the message names field, value and fix
│   ├── MalformedRequest 400    the request cannot be parsed (JSON, cursor)
│   ├── Unauthorized     401    the API key is missing or not valid
│   ├── Forbidden        403    readable and usable, but owned by another key
│   ├── NotFound         404    not there, or owned by another key
│   ├── Conflict         409    the current state does not allow it (cancel of a final job)
│   ├── TooLarge         413    the body is too large
│   ├── UnsupportedMedia 415    the content type is not supported
│   └── StorageFull      507    the server's disk is full
├── Unavailable          503    the API, or a service it needs, does not answer
└── ConfigurationError          a setting is wrong; the message names it and the fix

Internal errors of the server are in `shared.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class NightshiftError(Exception):
    """Base class of all errors that Nightshift raises."""


# -- requests -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldError:
    """One wrong field: `loc` is the path to it (`("training", "epochs")`), `msg` names the fix."""

    loc: tuple[str | int, ...]
    msg: str


class RequestError(NightshiftError):
    """Base class of errors the caller can fix. `status`, `slug` and `title` make the problem document (RFC 9457)."""

    status: ClassVar[int] = 400
    slug: ClassVar[str] = "bad-request"
    title: ClassVar[str] = "Bad request"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)


class InvalidRequest(RequestError):
    """A field is wrong; `errors` has each wrong field."""

    status, slug, title = 422, "invalid-request", "Invalid request"

    @classmethod
    def field(cls, loc: tuple[str | int, ...], msg: str) -> InvalidRequest:
        """Return the error of one field."""
        return cls(f"{'.'.join(map(str, loc))}: {msg}", [FieldError(loc, msg)])


class MalformedRequest(RequestError):
    """The request cannot be parsed."""

    status, slug, title = 400, "malformed-request", "Malformed request"


class Unauthorized(RequestError):
    """The API key is missing or not valid."""

    status, slug, title = 401, "unauthorized", "A valid API key is required"


class Forbidden(RequestError):
    """Only the owner may do this."""

    status, slug, title = 403, "forbidden", "This belongs to another owner"


class NotFound(RequestError):
    """It does not exist, or another key owns it."""

    status, slug, title = 404, "not-found", "Not found"

    @classmethod
    def of(cls, noun: str, name: str) -> NotFound:
        """Return the error of a name that does not exist."""
        return cls(f"There is no {noun} {name!r}.")


class Conflict(RequestError):
    """The current state does not allow this."""

    status, slug, title = 409, "conflict", "The current state does not allow this"


class TooLarge(RequestError):
    """The request is too large."""

    status, slug, title = 413, "too-large", "Too large"


class UnsupportedMedia(RequestError):
    """The content type is not supported."""

    status, slug, title = 415, "unsupported-media-type", "Unsupported content type"


class StorageFull(RequestError):
    """The server's storage is full."""

    status, slug, title = 507, "storage-full", "The storage is full"


# -- services and settings ------------------------------------------------------------------------


class Unavailable(NightshiftError):
    """The API, or a service it needs, does not answer. The API then responds with 503."""


class ConfigurationError(NightshiftError):
    """A setting is wrong; the message names it and the fix."""
