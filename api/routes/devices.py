"""Routes of the ledger of devices."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from api.auth import Owner
from api.dependencies import TheService
from api.openapi import COMMON, problems
from api.route import Route
from api.schemas import DeviceView, Page
from api.services import device_actions
from shared.db.engine import read
from shared.fleet import ledger

router = APIRouter(prefix="/v1/devices", tags=["service"], responses=COMMON, route_class=Route)

DeviceName = Annotated[
    str,
    Path(
        pattern=r"^[^\x00-\x1f\x7f/]{1,200}$",
        description="A device by its worker (`gpu0@host`) or UUID, or a host with all devices that it has now.",
    ),
]
_CONTROL: dict[str, Any] = {"response_model": Page[DeviceView], "responses": problems(404)}


@router.get("", response_model=Page[DeviceView], summary="List the devices")
def list_devices(service: TheService, owner: Owner) -> dict[str, Any]:
    """Each device names the attempt that holds it; `job_id` is null where it is another owner's."""
    with read(service.engine) as conn:
        return {"items": ledger.list_devices(conn, service.settings.lease_seconds, owner)}


@router.post("/{name}/cordon", **_CONTROL, summary="Cordon a device or host")
def cordon(name: DeviceName, service: TheService, owner: Owner) -> dict[str, Any]:
    """No attempt takes it until `uncordon`. The one that holds it goes on."""
    return device_actions.act(service, name, owner, "cordon")


@router.post("/{name}/drain", **_CONTROL, summary="Drain a device or host")
def drain(name: DeviceName, service: TheService, owner: Owner) -> dict[str, Any]:
    """Cordon it; the jobs on it write a checkpoint and return to the queue, and no retry is charged."""
    return device_actions.act(service, name, owner, "drain")


@router.post("/{name}/uncordon", **_CONTROL, summary="Uncordon a device or host")
def uncordon(name: DeviceName, service: TheService, owner: Owner) -> dict[str, Any]:
    """Attempts take it again."""
    return device_actions.act(service, name, owner, "uncordon")


@router.post(
    "/{name}/forget",
    response_model=Page[DeviceView],
    responses=problems(404, 409),
    summary="Forget a device or host that is gone",
)
def forget(name: DeviceName, service: TheService, owner: Owner) -> dict[str, Any]:
    """Delete its devices and workers; return the devices. 409 while a worker of it lives or an attempt holds one."""
    return device_actions.act(service, name, owner, "forget")
