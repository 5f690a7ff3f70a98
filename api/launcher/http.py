"""Asking a part whether it answers."""

from __future__ import annotations

import urllib.error
import urllib.request


def ok(url: str, timeout: float = 2.0) -> bool:
    """Whether GET `url` answers 200. No proxy: these are parts on this machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            return int(response.status) == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False
