"""Who may change what every key may use: a data set or model is changed by keys of the owner who made it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from nightshift.errors import Forbidden
from shared.fleet.keys import owner_names


def may_change(owner_id: str | None, asking: str | None) -> bool:
    """`owner_id` None: nobody's, which every key may change; `asking` None: Nightshift itself."""
    return owner_id is None or asking is None or owner_id == asking


def refusal(noun: str, name: str) -> str:
    return (
        f"{noun} {name!r} belongs to another key's owner, who alone may change it; "
        "use it as it is, or choose another name for your own"
    )


def require(noun: str, name: str, owner_id: str | None, asking: str | None) -> None:
    """Raises Forbidden."""
    if not may_change(owner_id, asking):
        raise Forbidden(f"{refusal(noun, name)}.")


def told(conn: Connection, items: Iterable[dict[str, Any]], asking: str) -> list[dict[str, Any]]:
    """The items, each with `owner` (a name; None: nobody's), `yours` and `may_change` in place of its `owner_id`."""
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
