"""Pages of models: the list, one model with its versions, and moves of its aliases.

Every key may see them; only keys of a model's owner may change it. The jobs that created versions are shown only to
their owner.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api.flower.pages.base import Action, Handler
from api.services.spec_errors import parse
from nightshift.errors import InvalidRequest
from shared import ownership
from shared.fleet.keys import owner_names
from shared.jobs import queries
from shared.models import aliases, editing, overview, package
from shared.specs.models import AliasMoveTo, ModelPatch, NewVersion, Rollback, VersionPatch
from shared.storage import storage_of

#: Largest number of versions compared.
MOST_COMPARED = 8


async def listed(handler: Handler) -> dict[str, Any]:
    """Return the data of the list."""
    asking, seen = handler.principal.owner_id, handler.owner
    return {
        "models": await handler.query(lambda conn: ownership.with_owner(conn, overview.overview(conn, seen), asking))
    }


async def model(handler: Handler, name: str) -> dict[str, Any]:
    """Return the model, the versions that the URL compares, and the newest changes. Raises NotFound."""
    numbers = compared(handler)
    owner, asking = handler.owner, handler.principal.owner_id
    before = handler.number_argument("before", 0, 0, 10**9) or None

    def select(conn: Connection) -> dict[str, Any]:
        [shown] = ownership.with_owner(conn, [overview.detail(conn, name, owner, before)], asking)
        chosen = overview.existing(conn, name, numbers)
        shown["comparison"] = overview.side_by_side(conn, name, chosen, owner) if len(chosen) > 1 else None
        return shown | {"history": changes(conn, name, None)}

    return await handler.query(select)


def compared(handler: Handler) -> list[int]:
    """Return the versions of `?compare=1,3`. Raises InvalidRequest."""
    given = [part for part in (handler.text_argument("compare") or "").split(",") if part]
    if len(given) > MOST_COMPARED or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in given):
        raise InvalidRequest.field(("compare",), f"must be up to {MOST_COMPARED} versions separated by commas")
    return list(dict.fromkeys(int(part) for part in given))


async def history(handler: Handler, name: str) -> dict[str, Any]:
    """Return a page of earlier changes."""
    cursor = handler.text_argument("cursor", 300)
    return await handler.query(lambda conn: changes(conn, name, cursor))


def changes(conn: Connection, name: str, cursor: str | None) -> dict[str, Any]:
    """Return a page of the model's changes, newest first."""
    page = aliases.history(conn, name, cursor, 20)
    known = owner_names(conn, {item["who"] for item in page.items})
    return {
        "items": [item | {"who": known.get(item["who"], item["who"])} for item in page.items],
        "next": page.next_cursor,
    }


async def move_alias(handler: Action, name: str) -> dict[str, Any]:
    """Point an alias at a version."""
    move, who = parse(handler.body(), AliasMoveTo), handler.principal.owner_id
    named: Any = {"who": who, "why": move.reason}
    await handler.change(lambda conn: aliases.set_alias(conn, name, move.alias, move.version, **named))
    return {"message": f"{name}@{move.alias} points at version {move.version}."}


async def roll_back(handler: Action, name: str) -> dict[str, Any]:
    """Point an alias back at its previous version."""
    wanted, who = parse(handler.body(), Rollback), handler.principal.owner_id
    named: Any = {"who": who, "why": wanted.reason}
    before, now = await handler.change(lambda conn: aliases.rollback(conn, name, wanted.alias, **named))
    return {"message": f"{name}@{wanted.alias} points at version {now} again (was {before})."}


async def describe(handler: Action, name: str) -> dict[str, Any]:
    """Change the description of a model."""
    patch, who = parse(handler.body(), ModelPatch), handler.principal.owner_id
    await handler.change(lambda conn: editing.describe(conn, name, patch.description, who=who))
    return {"message": f"Description of {name} {'saved' if patch.description else 'removed'}."}


async def change_version(handler: Action, name: str, version: str) -> dict[str, Any]:
    """Change description or tags of a version."""
    changes, who = parse(handler.body(), VersionPatch).changes(), handler.principal.owner_id
    await handler.change(lambda conn: editing.change_version(conn, name, int(version), changes, who=who))
    return {"message": f"{name}@{version} saved."}


async def register_job(handler: Action, name: str) -> dict[str, Any]:
    """Register the model of a job as a version of this name, which may be new."""
    new, who, owner = parse(handler.body(), NewVersion), handler.principal.owner_id, handler.owner

    def work(conn: Connection) -> int:
        job_id, said = queries.find_id(conn, new.job, owner), new.description or None
        return editing.register_job(conn, name, job_id, owner, who=who, description=said, tags=new.tags)

    version = await handler.change(work)
    return {"message": f"Job {new.job[:8]} registered as {name}@{version}.", "version": version}


class VersionFiles(Handler):
    """The files of a version as one zip, streamed."""

    async def get(self, name: str, selector: str) -> None:
        version, rows = await self.query(lambda conn: package.files_of(conn, name, selector))
        storage = storage_of(self.site.settings)
        files = await self.off_loop(lambda: [(row["path"], storage.reader(row["stored_as"]).open) for row in rows])
        self.set_header("Content-Type", "application/zip")
        self.set_header("Content-Disposition", f'attachment; filename="{name}-{version}.zip"')
        self.set_header("Cache-Control", "private, no-cache")
        await self.send(filter(None, package.zipped(f"{name}-{version}", files)))
