"""`Authorization: Bearer <key>` on every /v1 route.

Missing, malformed, non-ASCII, wrong and revoked keys all get the same 401. A key is looked up by its SHA-256, so no
comparison leaks its characters by timing.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from api.dependencies import Service, TheService
from nightshift.errors import Unauthorized
from shared.db.engine import read_one
from shared.fleet import keys

#: Longest key that is looked up (characters); ours have fewer than 100.
_MAX_KEY = 512

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="api_key",
    description="The key from `<data-dir>/api_key`, or one made with `nightshift keys create`.",
)


def require_owner(
    request: Request,
    service: TheService,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> str:
    """Return the owner of the key. Raises Unauthorized; DatabaseUnavailable (503) when keys cannot be read.

    The key is looked up once per request, also where a route checks it before it reads the body.
    """
    if not hasattr(request.state, "owner"):
        request.state.owner = _owner_of(service, credentials)
    owner: str = request.state.owner
    return owner


def _owner_of(service: Service, credentials: HTTPAuthorizationCredentials | None) -> str:
    if credentials is None or not credentials.credentials:
        raise Unauthorized("Send the header 'Authorization: Bearer <key>'.")
    key = credentials.credentials
    if not (key.isascii() and key.isprintable() and len(key) <= _MAX_KEY):
        raise Unauthorized("The API key is unknown or revoked.")
    with read_one(service.engine) as conn:
        return keys.verify(conn, key).owner_id


Owner = Annotated[str, Depends(require_owner)]
