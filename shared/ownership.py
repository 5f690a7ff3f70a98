"""Ownership of data sets and models: every key may use them, only keys of their owner may change them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from nightshift.errors import Forbidden
from shared.fleet.keys import owner_names


def may_change(owner_id: str | None, asking: str | None) -> bool:
    """Return whether `asking` (None: Nightshift itself) may change something of `owner_id` (None: no owner)."""
    return owner_id is None or asking is None or owner_id == asking


def refusal(noun: str, name: str) -> str:
    """Return the error message for a change of another owner's data set or model."""
    return f"{noun} {name!r} belongs to another owner and only that owner can change it; choose another name for yours"


def require(noun: str, name: str, owner_id: str | None, asking: str | None) -> None:
    """Raise Forbidden unless `asking` may change it."""
    if not may_change(owner_id, asking):
        raise Forbidden(f"{refusal(noun, name)}.")


def with_owner(conn: Connection, items: Iterable[dict[str, Any]], asking: str) -> list[dict[str, Any]]:
    """Replace `owner_id` of each item by `owner` (a name; None: no owner), `yours` and `may_change`."""
    found = [(item, item.get("owner_id")) for item in items]
    names = owner_names(conn, {owner for _, owner in found if owner})
    return [
        {
            **{key: value for key, value in item.items() if key != "owner_id"},
            "owner": names.get(owner, owner) if owner else None,
            "yours": owner == asking,
            "may_change": not item.get("builtin") and may_change(owner, asking),
        }
        for item, owner in found
    ]
