"""The page of one job: state, curves, log, files and actions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection

from api.flower.job_overview import overview
from api.flower.pages.base import Action, Handler, Page
from api.http.json_body import parse_json
from api.services import exports, job_actions
from api.services.spec_errors import parse
from shared.job_files.artifact_files import INLINE
from shared.jobs import queries
from shared.jobs.queries.curves import curves
from shared.specs.edits import JobPatch
from shared.storage import storage_of

T = TypeVar("T")

#: Points of a curve that is about 600 pixels wide.
MAX_POINTS = 600
#: Lines of the log in the page; earlier ones are loaded on request.
LOG_LINES = 400
#: Events in one response; a page that is far behind requests more at once.
MAX_EVENTS = 2_000
#: Bytes read from a file at a time.
_CHUNK = 256 * 1024


class JobPage(Page):
    """The page."""

    tab = "jobs"

    async def get(self, job_id: str) -> None:
        lease = self.site.settings.lease_seconds

        def select(conn: Any) -> dict[str, Any]:
            # The overview first: log lines with later numbers are sent again with the live events.
            shown = overview(conn, job_id, self.owner, lease)
            return shown | {"log": queries.log_tail(conn, job_id, LOG_LINES)}

        shown = await self.query(select)
        job = shown["job"]
        self.show("ns_job.html", job["name"] or f"{job['kind']} {job_id[:8]}", shown, job=job)


async def live(handler: Handler, job_id: str) -> dict[str, Any]:
    """Return the events after `?after=`, and the job's state if there are any."""
    after = handler.number_argument("after", 0, 0, 2**53)
    lease = handler.site.settings.lease_seconds

    def select(conn: Any) -> dict[str, Any]:
        seq = queries.get_job(conn, job_id, handler.owner)["event_seq"]
        if seq <= after:
            return {"events": [], "more": False}
        shown = overview(conn, job_id, handler.owner, lease)
        events = queries.events_after(conn, job_id, after, MAX_EVENTS)
        return {"overview": shown, "events": events, "more": len(events) == MAX_EVENTS}

    return await handler.query(select)


async def all_curves(handler: Handler, job_id: str) -> dict[str, Any]:
    """Return all curves, reduced to `?max_points=`."""
    points = handler.number_argument("max_points", MAX_POINTS, 4, 5_000)

    def select(conn: Any) -> dict[str, Any]:
        row = queries.get_job(conn, job_id, handler.owner)
        return {"seq": row["event_seq"], "curves": kept_curves(conn, row, points)}

    return await handler.query(select)


#: Cached curves by (job, last event, points), so those of an ended job are computed only once for all users.
_kept: OrderedDict[tuple[str, int, int], dict[str, Any]] = OrderedDict()
#: Largest number of cached entries, about 100 kB each.
_MAX_KEPT = 64


def kept_curves(conn: Any, row: Any, points: int) -> dict[str, Any]:
    """Return the curves of a job, from the cache if it has no new events."""
    key = (str(row["id"]), int(row["event_seq"]), points)
    found = _kept.get(key)
    if found is None:
        found = _kept[key] = curves(conn, row["id"], points)
        while len(_kept) > _MAX_KEPT:
            _kept.popitem(last=False)
    return found


async def _of_job(handler: Handler, job_id: str, query: Callable[[Connection], T]) -> T:
    """Return facts about a job of the owner. Raises NotFound, also for another owner's job."""

    def select(conn: Connection) -> T:
        queries.get_job(conn, job_id, handler.owner)
        return query(conn)

    return await handler.query(select)


async def system(handler: Handler, job_id: str) -> dict[str, Any]:
    """Return the resource usage of the job's runners, as curves by attempt."""
    return {"samples": await _of_job(handler, job_id, lambda conn: queries.system_samples(conn, job_id))}


async def log(handler: Handler, job_id: str) -> dict[str, Any]:
    """Return the log lines before `?before=`."""
    before = handler.number_argument("before", 2**53, 0, 2**53)
    limit = handler.number_argument("limit", LOG_LINES, 1, 5_000)
    return {"lines": await _of_job(handler, job_id, lambda conn: queries.log_tail(conn, job_id, limit, before))}


class JobExport(Handler):
    """All metric points, or the whole log, as a file."""

    async def get(self, job_id: str, name: str) -> None:
        await self.query(lambda conn: queries.get_job(conn, job_id, self.owner))
        written, media_type = _EXPORTS[name]
        self.set_header("Content-Type", f"{media_type}; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="{job_id}-{name}"')
        await self.send(written(self.site.engine, job_id))


_EXPORTS = {"metrics.csv": (exports.metrics_csv, "text/csv"), "log.txt": (exports.log_text, "text/plain")}


class JobFile(Handler):
    """An artifact. Its row names the file; the path in the URL is only compared with rows."""

    async def get(self, job_id: str, path: str) -> None:
        row = await _of_job(self, job_id, lambda conn: queries.artifact(conn, job_id, path))
        file = await self.off_loop(lambda: storage_of(self.site.settings).reader(row["stored_as"]))
        name = PurePosixPath(row["path"]).name
        how = "inline" if row["media_type"] in INLINE and self.text_argument("save") is None else "attachment"
        self.set_header("Content-Type", row["media_type"])
        self.set_header("Content-Disposition", f"{how}; filename*=UTF-8''{quote(name)}")
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        self.set_header("Cache-Control", "private, no-cache")
        self.set_header("Etag", f'"{row["sha256"]}"')
        if self.check_etag_header():
            self.set_status(304)
            return
        with await self.off_loop(file.open) as content:
            await self.send(iter(partial(content.read, _CHUNK), b""))


async def act(handler: Action, job_id: str, action: str) -> Any:
    """Request an action on a job; return the job, or None for a deleted one."""
    row = await handler.query(lambda conn: queries.get_job(conn, job_id, handler.owner))
    of = handler.site.service, job_id, str(row["owner_id"])
    delete = action == "delete"
    work = partial(job_actions.delete, *of) if delete else partial(job_actions.act, *of, action)
    return await handler.off_loop(work)


async def edit(handler: Action, job_id: str) -> Any:
    """Change name, notes, tags or priority (`JobPatch`)."""
    row = await handler.query(lambda conn: queries.get_job(conn, job_id, handler.owner))
    service, owner, by = handler.site.service, str(row["owner_id"]), handler.principal.owner_id
    patch = parse(parse_json(handler.request.body), JobPatch)
    return await handler.off_loop(lambda: job_actions.edit(service, job_id, owner, by, patch))
