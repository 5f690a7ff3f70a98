"""Protect Flower with API keys, as basic-auth passwords of the user `nightshift`.

Keys are checked against their hashes in SQL, so a revoked key is refused here, too (within `KNOWN_SECONDS`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Callable
from typing import Any

import tornado.web
from flower.views import BaseHandler

from api.flower.config import USER
from shared.errors import DatabaseUnavailable
from shared.fleet.keys import Principal

#: How long a valid key is cached (seconds): a page makes a dozen requests. Too high: a revoked key works as long.
KNOWN_SECONDS = 5.0

#: Returns the owner of a key; None for an unknown one.
Verify = Callable[[str], Principal | None]


class KeyCheck:
    """Looks up the owner of a password; valid ones are cached briefly, as hashes."""

    def __init__(self, verify: Verify, now: Callable[[], float] = time.monotonic) -> None:
        self._verify, self._now = verify, now
        self._known: dict[bytes, tuple[float, Principal]] = {}

    def __call__(self, key: str) -> Principal | None:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        if known and known[0] >= self._now():
            return known[1]
        principal = self._verify(key)
        if principal is None:
            self._known.pop(digest, None)
        else:
            self._known[digest] = (self._now() + KNOWN_SECONDS, principal)
        return principal


def password_of(header: str) -> str | None:
    """Return the password of a basic `Authorization` header of our user; None for anything else."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return password if colon and user == USER else None


def protect(check: KeyCheck) -> None:
    """Replace Flower's check by ours. Every page of Flower and ours calls `get_current_user`.

    The owner of the key is then in `handler.principal`.
    """

    def refuse(handler: Any) -> tornado.web.Finish:
        # Not an HTTPError: Flower's API answers that without WWW-Authenticate, so a browser would not send its key.
        handler.set_status(401)
        handler.set_header("WWW-Authenticate", 'Basic realm="flower"')
        handler.set_header("Content-Type", "text/plain; charset=utf-8")
        handler.finish(f"Flower needs an API key: user {USER}, the key as password.")
        return tornado.web.Finish()

    def get_current_user(handler: Any) -> str:
        password = password_of(handler.request.headers.get("Authorization", ""))
        try:
            if password and (principal := check(password)):
                handler.principal = principal
                return USER
        except DatabaseUnavailable:
            raise tornado.web.HTTPError(503, "the database does not answer, so no key can be checked") from None
        raise refuse(handler)

    BaseHandler.get_current_user = get_current_user
