"""Pages of sweeps: the list, one sweep with its trials, and changes of sweeps."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from api.flower.pages.base import Action, Handler, Page
from api.services import sweep_actions
from api.services.spec_errors import parse
from shared.db.engine import read
from shared.db.schema import sweeps
from shared.fleet.keys import owner_names
from shared.specs.sweeps import MoreTrials
from shared.sweeps import queries

#: Sweeps in the list, newest first.
MOST = 100
#: What is said after an action.
_DONE = {
    "pause": "Sweep paused; its running jobs stop at a checkpoint.",
    "resume": "Sweep resumed.",
    "stop": "Sweep stopping; its running jobs finish with what they have.",
    "cancel": "Sweep cancelled.",
    "delete": "Sweep deleted.",
}


async def listed(handler: Handler) -> dict[str, Any]:
    """Return the data of the list."""
    owner = handler.owner

    def find(conn: Connection) -> list[dict[str, Any]]:
        items = queries.list_sweeps(conn, owner, None, MOST).items
        ids = [item["id"] for item in items]
        rows = conn.execute(select(sweeps.c.id, sweeps.c.owner_id).where(sweeps.c.id.in_(ids))).all()
        names = owner_names(conn, {row.owner_id for row in rows})
        who = {row.id: names.get(row.owner_id, row.owner_id) for row in rows}
        return [item | {"who": who[item["id"]]} for item in items]

    return {"sweeps": await handler.query(find)}


async def sweep(handler: Handler, reference: str) -> dict[str, Any]:
    """Return the data of one sweep. Raises NotFound."""
    owner = handler.owner
    return await handler.query(lambda conn: sweep_actions.detail(conn, queries.find_id(conn, reference, owner), owner))


class SweepPage(Page):
    """One sweep."""

    tab = "sweeps"

    async def get(self, reference: str) -> None:
        shown = await sweep(self, reference)
        self.show("ns_sweep.html", shown["name"] or f"Sweep {shown['id'][:8]}", shown)


def _whole(handler: Handler, reference: str) -> str:
    with read(handler.site.engine) as conn:
        return queries.find_id(conn, reference, handler.owner)


async def act(handler: Action, reference: str, verb: str) -> dict[str, Any]:
    """Pause, resume, stop, cancel or delete a sweep."""

    def work() -> None:
        sweep_actions.act(handler.site.service, _whole(handler, reference), handler.owner, verb)

    await handler.off_loop(work)
    return {"message": _DONE[verb]}


async def add(handler: Action, reference: str) -> dict[str, Any]:
    """Add trials to a sweep."""
    more = parse(handler.body(), MoreTrials)

    def work() -> None:
        sweep_actions.add_trials(handler.site.service, _whole(handler, reference), handler.owner, more.count)

    await handler.off_loop(work)
    return {"message": f"{more.count} trials added."}
