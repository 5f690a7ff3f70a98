"""Each device: what runs there, how busy it is, and whether its worker is heard of."""

from __future__ import annotations

from typing import Any

from api.flower_pages.page import Data, Handler, Page
from shared.fleet.devices import devices


async def fleet(handler: Handler) -> dict[str, Any]:
    seconds = handler.site.settings.lease_seconds
    found = await handler.query(lambda conn: devices(conn, handler.owner, seconds))
    return {"devices": found, "heartbeat_seconds": handler.site.settings.heartbeat_seconds}


class DevicesPage(Page):
    tab = "devices"

    async def get(self) -> None:
        self.show("ns_devices.html", "Devices", await fleet(self))


class DevicesData(Data):
    async def get(self) -> None:
        self.answer(await fleet(self))
