"""Dependencies of routes: the service's parts and the types of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import Depends, Path, Query
from pydantic import StringConstraints
from sqlalchemy import Connection, Engine
from starlette.requests import Request

from api.services.event_feed import EventFeed
from api.services.group_commit import Submissions
from api.services.write_threads import Writers
from shared.jobs import queries
from shared.settings import Settings
from shared.specs.base import NAME


@dataclass(frozen=True)
class Service:
    """The parts of one API process."""

    settings: Settings
    engine: Engine
    watch: EventFeed
    submissions: Submissions
    #: Sends a doorbell to a device's queue; must neither block nor raise.
    ring: Callable[[str, str], None]
    #: Raises BrokerUnavailable when the broker does not answer.
    ping: Callable[[], None]
    #: Threads for endpoints that may wait for the database's write lock.
    writers: Writers = field(default_factory=Writers)
    #: Limits the threads that register data sets; a registration takes long and must not occupy request threads.
    registering: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))


def get_service(request: Request) -> Service:
    """Return the parts of the app that handles the request."""
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(get_service)]

#: A job's id, or its beginning while that is unique.
JobId = Annotated[
    str,
    Path(
        pattern=r"^[0-9a-f]{4,16}$",
        description="The job's id (16 hexadecimal digits), or its beginning (4 or more) while that is unique.",
    ),
]

#: The pattern of a parameter that is a name.
WHOLE_NAME = f"^{NAME}$"
#: The name of a data set or model.
NameInPath = Annotated[str, Path(pattern=WHOLE_NAME, description="Letters, digits, '.', '_' and '-'.")]

#: A tag to filter by, without control characters: databases reject NUL.
Tag = Annotated[str, StringConstraints(min_length=1, max_length=401, pattern=r"^[^\x00-\x1f\x7f]+$")]
#: A search for jobs.
Search = Annotated[str, StringConstraints(max_length=600, pattern=r"^[^\x00-\x1f\x7f]*$")]

#: Items of a page.
Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=300, description="`next_cursor` of the page before.")]

_ID_LENGTH = 16


def find_job(conn: Connection, job_id: str, owner_id: str) -> Mapping[Any, Any]:
    """Return the row of a job by its id or the beginning. Raises NotFound, also for another owner's job."""
    return queries.get_job(conn, whole_id(conn, job_id, owner_id), owner_id)


def whole_id(conn: Connection, job_id: str, owner_id: str) -> str:
    """Return the full id. Raises NotFound, also for another owner's job."""
    return job_id if len(job_id) == _ID_LENGTH else queries.find_id(conn, job_id, owner_id)
