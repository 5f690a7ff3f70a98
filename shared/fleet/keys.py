"""API keys: shown once, stored as SHA-256. Jobs and models belong to the `owner_id`, so keys can be rotated."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, select, update
from sqlalchemy import insert as plain_insert

from nightshift.errors import NotFound, Unauthorized
from shared.clock import db_now, iso
from shared.db.engine import write
from shared.db.schema import api_keys

#: Recognizable in a leak scan; 256 random bits follow.
PREFIX = "ns_"
_COLUMNS = (api_keys.c.id, api_keys.c.owner_id, api_keys.c.name, api_keys.c.created_at, api_keys.c.revoked_at)

#: Built once, because every request executes it.
_VALID = select(api_keys.c.id, api_keys.c.owner_id, api_keys.c.name).where(
    api_keys.c.sha256 == bindparam("digest"), api_keys.c.revoked_at.is_(None)
)


@dataclass(frozen=True)
class Principal:
    """The authenticated caller."""

    key_id: str
    owner_id: str
    name: str


def create(conn: Connection, name: str, owner_id: str | None = None) -> tuple[Principal, str]:
    """Create a key; return it with its secret, for the only time. Without `owner_id` it has a new owner."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return _store(conn, name, owner_id, secret), secret


def _store(conn: Connection, name: str, owner_id: str | None, secret: str) -> Principal:
    key_id = secrets.token_hex(8)
    principal = Principal(key_id, owner_id or key_id, name)
    row = {
        "id": key_id,
        "owner_id": principal.owner_id,
        "name": name,
        "sha256": _digest(secret),
        "created_at": db_now(),
    }
    conn.execute(plain_insert(api_keys).values(**row))
    return principal


def verify(conn: Connection, secret: str) -> Principal:
    """Return the caller of a key. Raises Unauthorized.

    The look-up by the hash of 256 random bits leaks nothing about other keys through timing.
    """
    row = conn.execute(_VALID, {"digest": _digest(secret)}).one_or_none()
    if row is None:
        raise Unauthorized("The API key is unknown or revoked. Send `Authorization: Bearer <key>`.")
    return Principal(row.id, row.owner_id, row.name)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def revoke(conn: Connection, key_id: str) -> None:
    """Revoke a key; idempotent. Raises NotFound."""
    changed = conn.execute(
        update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None)).values(revoked_at=db_now())
    )
    known = conn.scalar(select(api_keys.c.id).where(api_keys.c.id == key_id))
    if not changed.rowcount and known is None:
        raise NotFound.of("key", key_id)


def list_keys(conn: Connection) -> list[dict[str, Any]]:
    """Return all keys without their secrets, newest first."""
    rows = conn.execute(select(*_COLUMNS).order_by(api_keys.c.created_at.desc(), api_keys.c.id))
    return [{**row._mapping, "created_at": iso(row.created_at), "revoked_at": iso(row.revoked_at)} for row in rows]


def owner_names(conn: Connection, owners: set[str]) -> dict[str, str]:
    """Return the display name of each owner: the name of its first key."""
    keys = select(api_keys.c.owner_id, api_keys.c.name).where(api_keys.c.owner_id.in_(owners))
    rows = conn.execute(keys.order_by(api_keys.c.created_at.desc(), api_keys.c.id))
    return {row.owner_id: row.name for row in rows}


def ensure_key_file(engine: Engine, path: Path) -> str:
    """Return the secret of the embedded stack's key, created in `path` (mode 0600) at the first start."""
    if path.exists():
        secret = path.read_text(encoding="utf-8").strip()
        with write(engine) as conn:
            try:
                verify(conn, secret)
            except Unauthorized:  # a new database in an old folder: keep the existing key valid
                if conn.scalar(select(api_keys.c.id).where(api_keys.c.sha256 == _digest(secret))) is None:
                    _store(conn, "embedded", None, secret)
        return secret
    with write(engine) as conn:
        _, secret = create(conn, "embedded")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secret + "\n")
    return secret
