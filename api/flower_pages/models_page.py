"""The models, one model with its versions, and the moves of its aliases. Models belong to the installation, so every key
sees and moves them; only the jobs that made them belong to somebody."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api.flower_pages.page import Action, Data, Handler, Page
from api.scheduling import parse
from shared.db.engine import write
from shared.errors import InvalidRequest
from shared.jobs.queries.table import owner_names
from shared.models import aliases, overview
from shared.specs.models import AliasMoveTo, Rollback

#: Versions that fit side by side.
MOST_COMPARED = 8


class ModelsPage(Page):
    tab = "models"

    async def get(self) -> None:
        self.show("ns_models.html", "Models", {"models": await self.query(overview.overview)})


class ModelsData(Data):
    async def get(self) -> None:
        self.answer({"models": await self.query(overview.overview)})


async def model(handler: Handler, name: str) -> dict[str, Any]:
    """The model, the versions that the address compares, and the newest lines of its audit."""
    numbers = compared(handler)
    owner = handler.owner

    def look(conn: Connection) -> dict[str, Any]:
        shown = overview.detail(conn, name, owner)
        there = {version["version"] for version in shown["versions"]}
        chosen = [number for number in numbers if number in there]
        shown["comparison"] = overview.side_by_side(conn, name, chosen, owner) if len(chosen) > 1 else None
        return shown | {"history": changes(conn, name, None)}

    return await handler.query(look)


def compared(handler: Handler) -> list[int]:
    """`?compare=1,3`. Raises InvalidRequest."""
    given = [part for part in (handler.text_argument("compare") or "").split(",") if part]
    if len(given) > MOST_COMPARED or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in given):
        raise InvalidRequest.field(("compare",), f"must be up to {MOST_COMPARED} versions with commas between")
    return list(dict.fromkeys(int(part) for part in given))


def changes(conn: Connection, name: str, cursor: str | None) -> dict[str, Any]:
    page = aliases.history(conn, name, cursor, 20)
    known = owner_names(conn, {item["who"] for item in page.items})
    return {
        "items": [item | {"who": known.get(item["who"], item["who"])} for item in page.items],
        "next": page.next_cursor,
    }


class ModelPage(Page):
    tab = "models"

    async def get(self, name: str) -> None:
        self.show("ns_model.html", name, await model(self, name))


class ModelData(Data):
    async def get(self, name: str) -> None:
        self.answer(await model(self, name))


class ModelHistory(Data):
    async def get(self, name: str) -> None:
        cursor = self.text_argument("cursor", 300)
        self.answer(await self.query(lambda conn: changes(conn, name, cursor)))


class MoveAlias(Action):
    async def post(self, name: str) -> None:
        move = parse(self.body(), AliasMoveTo)
        who = self.principal.owner_id

        def work() -> None:
            with write(self.site.engine) as conn:
                aliases.set_alias(conn, name, move.alias, move.version, who=who, why=move.reason)

        await self.off_loop(work)
        self.answer({"message": f"{name}@{move.alias} points at version {move.version} now."})


class RollBack(Action):
    async def post(self, name: str) -> None:
        wanted = parse(self.body(), Rollback)
        who = self.principal.owner_id

        def work() -> tuple[int, int]:
            with write(self.site.engine) as conn:
                return aliases.rollback(conn, name, wanted.alias, who=who, why=wanted.reason)

        before, now = await self.off_loop(work)
        self.answer({"message": f"{name}@{wanted.alias} points at version {now} again, not at {before}."})
