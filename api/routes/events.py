"""GET /v1/jobs/{id}/events: the events of a job as server-sent events, from any sequence number on.

Each event's `id` is its sequence number within the job, so a client that reconnects with Last-Event-ID misses none and
gets none twice. The stream ends after the final state; a later request is answered with 204, which tells an EventSource
not to reconnect.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from api.auth import Owner
from api.dependencies import JobId, Service, TheService, whole_id
from api.openapi import COMMON, problems
from nightshift.errors import MalformedRequest, Unavailable
from nightshift.states import JobState
from shared.db.engine import read
from shared.jobs import queries

router = APIRouter(prefix="/v1/jobs", tags=["results"], responses=COMMON)

#: Seconds of silence after which a comment is sent. Too low: traffic. Too high: proxies close the connection (60 s).
KEEPALIVE_SECONDS = 10.0
#: Milliseconds after which an EventSource reconnects.
RETRY_MS = 1_000
#: Events read from SQL at a time.
PAGE = 500
_LARGEST_ID = 2**62
EventType = Literal["state", "progress", "metric", "checkpoint", "artifact", "promotion", "edited", "log"]
#: Line ends for many readers, though not in this format; escaped inside JSON.
_LINE_ENDS = {ord(char): f"\\u{ord(char):04x}" for char in "\u0085\u2028\u2029"}

_SHOWN: dict[str, Any] = {
    "description": "Events `state`, `progress`, `metric`, `checkpoint`, `artifact`, `promotion`, `edited`, `log`; "
    "`data` is JSON with the time `at`.",
    "content": {
        "text/event-stream": {
            "example": 'id: 7\nevent: metric\ndata: {"at": "2027-01-31T02:00:00.000Z", "name": "loss", "step": 10, '
            '"epoch": 0, "value": 0.42}\n\n',
        }
    },
}

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _SHOWN,
    204: {"description": "The job is final and everything was sent before."},
}


@dataclass(frozen=True)
class _Page:
    events: list[dict[str, Any]]
    is_last: bool  # no further event exists yet
    state: JobState
    last_seq: int  # the job's highest sequence number


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses=_RESPONSES | problems(400, 404, 409),
    summary="Follow a job's events",
)
async def events(
    job_id: JobId,
    service: TheService,
    owner: Owner,
    last_event_id: Annotated[str | None, Header(description="Resume after this event.")] = None,
    types: Annotated[list[EventType] | None, Query(alias="type", description="Only these types; repeatable.")] = None,
) -> Response:
    """The stream ends after the final state. Reconnect with `Last-Event-ID`; 204: everything was sent before."""
    after = _parse_id(last_event_id)
    wanted = frozenset(types) if types else None
    whole, page = await run_in_threadpool(_first_page, service, job_id, owner, after, wanted)
    if page.state.is_final and not page.events and after >= page.last_seq:
        return Response(status_code=204)
    return StreamingResponse(
        _frames(service, whole, owner, after, page, wanted),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _parse_id(text: str | None) -> int:
    if text is None or text == "":
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= _LARGEST_ID):
        raise MalformedRequest("Last-Event-ID must be the id of an event of this stream: a whole number.")
    return int(text)


def _first_page(
    service: Service, job_id: str, owner: str, after: int, types: frozenset[str] | None
) -> tuple[str, _Page]:
    """Read the first page before the response begins, so that another owner's job is a 404, not a broken stream."""
    with read(service.engine) as conn:
        whole = whole_id(conn, job_id, owner)
    return whole, _read_page(service, whole, owner, after, types)


def _read_page(service: Service, job_id: str, owner: str, after: int, types: frozenset[str] | None) -> _Page:
    with read(service.engine) as conn:
        # The state first: the events read next then include all that were written before a final state.
        job = queries.get_job(conn, job_id, owner)
        read_now = queries.events_after(conn, job_id, after, PAGE, types)
    # Events are in several tables, read one after the other. One committed in between could have a higher number than
    # one that was missed, so events after the number read first are left for the next page.
    events = [event for event in read_now if event["seq"] <= job["event_seq"]]
    return _Page(events, len(read_now) < PAGE, JobState(job["state"]), job["event_seq"])


async def _frames(
    service: Service, job_id: str, owner: str, seq: int, page: _Page | None, types: frozenset[str] | None
) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY_MS}\n\n".encode()
    sent_at = time.monotonic()
    async with service.watch.follow(job_id) as topic:
        while not service.watch.closing:
            if page is not None:
                for event in page.events:
                    yield _frame(event)
                    seq, sent_at = event["seq"], time.monotonic()
                if page.state.is_final and page.is_last:
                    return
                if page.is_last:  # skip events of other types before this number
                    seq = max(seq, page.last_seq)
                if time.monotonic() - sent_at > KEEPALIVE_SECONDS:  # there were only events of other types
                    yield b": keep-alive\n\n"
                    sent_at = time.monotonic()
            if page is None or page.is_last:
                while not (news := await topic.beyond(seq, KEEPALIVE_SECONDS)) and not service.watch.closing:
                    yield b": keep-alive\n\n"
                    sent_at = time.monotonic()
                if not news:
                    return
            page = await _next_page(service, job_id, owner, seq, types)
            if page is None:
                yield b": the database does not answer\n\n"


async def _next_page(service: Service, job_id: str, owner: str, seq: int, types: frozenset[str] | None) -> _Page | None:
    """Read a page; None while the database does not answer, so that the stream stays open until it does."""
    try:
        return await service.watch.in_thread(lambda: _read_page(service, job_id, owner, seq, types))
    except (Unavailable, SQLAlchemyError):
        return None


def _frame(event: dict[str, Any]) -> bytes:
    data = json.dumps({"at": event["at"], **event["data"]}, ensure_ascii=False, separators=(",", ":"))
    data = data.translate(_LINE_ENDS)
    return f"id: {event['seq']}\nevent: {event['type']}\ndata: {data}\n\n".encode("utf-8", "replace")
