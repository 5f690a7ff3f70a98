"""`Authorization: Bearer <key>` on every /v1 route.

Missing, malformed, non-ASCII, wrong and revoked keys all get the same 401. A key is looked up by its SHA-256, so nothing
is compared character by character.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.dependencies import TheService
from nightshift.errors import Unauthorized
from shared.db.engine import read
from shared.fleet import keys

#: Longest key looked at (characters); ours have fewer than 100.
_MAX_KEY = 512

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="api_key",
    description="The key from `<data-dir>/api_key`, or one made with `nightshift keys create`.",
)


def require_owner(
    service: TheService, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    """The owner of the key; raises Unauthorized. DatabaseUnavailable (503) when keys cannot be read: never a 401."""
    if credentials is None or not credentials.credentials:
        raise Unauthorized("Send the header 'Authorization: Bearer <key>'.")
    key = credentials.credentials
    if not (key.isascii() and key.isprintable() and len(key) <= _MAX_KEY):
        raise Unauthorized("The API key is unknown or revoked.")
    with read(service.engine) as conn:
        return keys.verify(conn, key).owner_id


Owner = Annotated[str, Depends(require_owner)]
