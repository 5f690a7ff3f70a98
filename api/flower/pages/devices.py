"""Page of devices: running jobs, usage and heartbeats; past jobs; and the queue."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api.flower.pages.base import Action, Handler
from api.services import device_actions
from api.services.device_actions import DeviceAction
from nightshift.errors import InvalidRequest
from shared.fleet.devices import devices
from shared.fleet.history import WINDOWS, timeline
from shared.jobs.queries.queue import queued_jobs


async def fleet(handler: Handler) -> dict[str, Any]:
    """Return the devices and their current state."""
    seconds = handler.site.settings.lease_seconds
    found = await handler.query(lambda conn: devices(conn, handler.owner, seconds))
    return {"devices": found, "heartbeat_seconds": handler.site.settings.heartbeat_seconds}


async def page(handler: Handler) -> dict[str, Any]:
    """Return the data of the page."""
    return await fleet(handler) | await past(handler)


async def act(handler: Action, action: DeviceAction) -> dict[str, Any]:
    """Cordon, drain, uncordon or forget the device or host that the body names; return its devices.

    Raises NotFound, Conflict.
    """
    name, owner = str(handler.body().get("name", "")), handler.principal.owner_id
    return await handler.off_loop(lambda: device_actions.act(handler.site.service, name, owner, action))


async def past(handler: Handler) -> dict[str, Any]:
    """Return the jobs that ran in the time window of the URL, and the queue. Raises InvalidRequest."""
    window, owner = handler.text_argument("window") or "hour", handler.owner
    if window not in WINDOWS:
        raise InvalidRequest.field(("window",), f"must be one of {', '.join(WINDOWS)}")
    lease_seconds = handler.site.settings.lease_seconds

    def select(conn: Connection) -> dict[str, Any]:
        return {"history": timeline(conn, owner, window), "queue": queued_jobs(conn, owner, lease_seconds)}

    return await handler.query(select)
