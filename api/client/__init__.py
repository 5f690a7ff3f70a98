"""The Python SDK (`Client`, `AsyncClient`) and the `nightshift` command line.

    from api.client import Client

Names are looked up when they are first used, so that the command line starts without what it does not need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from api.client.facts import DamagedDownload, JobCancelled, JobFailed
    from api.client.policy import ApiUnreachable
    from api.client.sdk import Client, Job
    from api.client.sdk_async import AsyncClient, AsyncJob
    from api.client.shapes import Event

_WHERE = {
    "ApiUnreachable": "policy",
    "AsyncClient": "sdk_async",
    "AsyncJob": "sdk_async",
    "Client": "sdk",
    "DamagedDownload": "facts",
    "Event": "shapes",
    "Job": "sdk",
    "JobCancelled": "facts",
    "JobFailed": "facts",
}
__all__ = [
    "ApiUnreachable", "AsyncClient", "AsyncJob", "Client", "DamagedDownload", "Event", "Job", "JobCancelled", "JobFailed",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
