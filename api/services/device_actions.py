"""Cordon, drain, uncordon and forget devices, for the API and Flower's pages."""

from __future__ import annotations

from typing import Any, Literal

from api.dependencies import Service
from shared.db.engine import read, write
from shared.fleet import ledger
from shared.jobs import queries, transitions

DeviceAction = Literal["cordon", "drain", "uncordon", "forget"]


def act(service: Service, name: str, owner: str, action: DeviceAction) -> dict[str, Any]:
    """Return the devices of this name, UUID or host after the action. Raises NotFound, and Conflict for `forget`."""
    if action == "forget":
        return _forget(service, name, owner)
    with write(service.engine) as conn:
        (ledger.uncordon if action == "uncordon" else ledger.cordon)(conn, name)
    if action == "drain":
        with write(service.engine) as conn:
            transitions.request_drain(conn, ledger.named(name))
    with read(service.engine) as conn:
        found = ledger.list_devices(conn, service.settings.lease_seconds, owner, ledger.named(name))
        due = queries.due_ids(conn) if action == "uncordon" else {}
    for device, job_id in due.items():
        service.ring(device, job_id)
    return {"items": found}


def _forget(service: Service, name: str, owner: str) -> dict[str, Any]:
    """Return the devices that were forgotten, as they were."""
    lease_seconds = service.settings.lease_seconds
    with write(service.engine) as conn:
        found = ledger.list_devices(conn, lease_seconds, owner, ledger.named(name))
        ledger.forget(conn, name, lease_seconds)
    return {"items": found}
