"""Check whether a part answers over HTTP."""

from __future__ import annotations

import httpx


def ok(url: str, timeout: float = 2.0) -> bool:
    """Return whether GET `url` answers 200. No proxy is used: the parts run on this machine."""
    try:
        return httpx.get(url, timeout=timeout, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
