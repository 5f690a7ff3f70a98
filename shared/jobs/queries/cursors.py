"""Keyset cursors: the end of a page as opaque text with a checksum.

A cursor is a position, not a permission: every query repeats the owner's condition. The checksum only turns mistakes
and manual changes into an error (400); it is no protection against attackers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nightshift.errors import MalformedRequest

_MAX_LENGTH = 300
_CHECK_BYTES = 6


@dataclass(frozen=True)
class Page:
    """One page of items; `next_cursor` is None for the last."""

    items: list[dict[str, Any]]
    next_cursor: str | None


def encode(collection: str, *position: float | str) -> str:
    """Return the cursor of a position in a collection."""
    body = json.dumps(position, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_check(collection, body) + body).rstrip(b"=").decode()


def decode(collection: str, cursor: str, *kinds: type) -> tuple[Any, ...]:
    """Return the position, one value per kind. Raises MalformedRequest for text that `encode` did not return."""
    try:
        if len(cursor) > _MAX_LENGTH:
            raise ValueError("too long")
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        check, body = packed[:_CHECK_BYTES], packed[_CHECK_BYTES:]
        if check != _check(collection, body):
            raise ValueError("check sum")
        position = json.loads(body)
        if [type(value) for value in position] != list(kinds):
            raise ValueError("shape")
        if encode(collection, *position) != cursor:
            raise ValueError("not canonical")
    except (ValueError, binascii.Error, TypeError, RecursionError) as error:
        raise MalformedRequest("The cursor is not valid for this collection; start again without it.") from error
    return tuple(position)


def page(
    collection: str, rows: Sequence[Any], limit: int, position: tuple[str, ...], view: Callable[[Any], dict[str, Any]]
) -> Page:
    """Return a page of `limit` rows, of which one more was read; `position` are the columns that order them."""
    shown = rows[:limit]
    more = encode(collection, *(shown[-1][name] for name in position)) if len(rows) > limit and shown else None
    return Page([view(row) for row in shown], more)


def _check(collection: str, body: bytes) -> bytes:
    return hashlib.blake2s(
        body, digest_size=_CHECK_BYTES, key=b"nightshift.cursor", person=_person(collection)
    ).digest()


def _person(collection: str) -> bytes:
    return collection.encode()[:8]
