"""The Python SDK (`Client`, `AsyncClient`) and the `nightshift` command line.

    from nightshift import Client

Names are looked up when they are first used, so that the command line starts without what it does not need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nightshift.client.async_client import AsyncClient, AsyncJob
    from nightshift.client.client import Client, Job
    from nightshift.client.downloads import DamagedDownload, JobCancelled, JobFailed
    from nightshift.client.retry import ApiUnreachable
    from nightshift.client.types import Event

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
