"""The Python client of Nightshift.

    from nightshift import Client

    with Client() as nightshift:
        job = nightshift.submit(kind="train", model={"family": "cnn"}, dataset="digits")
        print(job.wait().result)

`Client` blocks and `AsyncClient` is awaited; `nightshift --help` shows the command line. Names are imported when they
are first used, so the command line starts fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nightshift.client.async_client import AsyncArtifact, AsyncClient, AsyncJob
    from nightshift.client.client import Artifact, Client, Job
    from nightshift.client.downloads import DamagedDownload, JobCancelled, JobFailed
    from nightshift.client.resources import (
        Comparison,
        Dataset,
        DatasetVersion,
        Delivery,
        Device,
        Family,
        InstalledProgram,
        Model,
        ModelVersion,
        Schedule,
        Webhook,
        Worker,
    )  # fmt: skip
    from nightshift.client.retry import ApiUnreachable, ServerError
    from nightshift.client.sweeps import AsyncSweep, Sweep
    from nightshift.client.types import Event, MetricTable
    from nightshift.errors import (
        ConfigurationError,
        Conflict,
        FieldError,
        Forbidden,
        InvalidRequest,
        MalformedRequest,
        NightshiftError,
        NotFound,
        RequestError,
        StorageFull,
        TooLarge,
        Unauthorized,
        Unavailable,
        UnsupportedMedia,
    )  # fmt: skip
    from nightshift.states import JobState

#: Modules that define the names exported here. Those that import the least are searched first.
_MODULES = (
    "errors", "states", "client.types", "client.resources", "client.downloads", "client.retry", "client.client",
    "client.async_client", "client.sweeps",
)  # fmt: skip

__all__ = [
    "ApiUnreachable", "Artifact", "AsyncArtifact", "AsyncClient", "AsyncJob", "AsyncSweep", "Client", "Comparison",
    "ConfigurationError", "Conflict", "DamagedDownload", "Dataset", "DatasetVersion", "Delivery", "Device", "Event",
    "Family", "FieldError", "Forbidden", "InstalledProgram", "InvalidRequest", "Job", "JobCancelled",
    "JobFailed", "JobState", "MalformedRequest", "MetricTable", "Model", "ModelVersion", "NightshiftError",
    "NotFound", "RequestError", "Schedule", "ServerError", "StorageFull", "Sweep", "TooLarge", "Unauthorized",
    "Unavailable", "UnsupportedMedia", "Webhook", "Worker",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module in _MODULES if name in __all__ else ():
        home = import_module(f"{__name__}.{module}")
        if hasattr(home, name):
            value = globals()[name] = getattr(home, name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
