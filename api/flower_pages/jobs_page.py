"""The table of jobs, and what it asks for every few seconds."""

from __future__ import annotations

from typing import Any

from api.flower_pages.page import Data, Handler, Page
from shared.errors import InvalidRequest
from shared.jobs.queries.table import SORTS, TableQuery, datasets_used, jobs_table
from shared.jobs.states import JobState

KINDS = ("train", "finetune", "batch_infer", "evaluate")
FAMILIES = ("cnn", "gru_lm", "gan")
FRAMEWORKS = ("torch", "tensorflow")
STATES = tuple(state.value for state in JobState)


def table_query(handler: Handler) -> TableQuery:
    """From the address, which is the same for the page and its data. Raises InvalidRequest."""
    states = tuple(filter(None, (handler.text_argument("state") or "").split(",")))
    sort = handler.text_argument("sort") or "-created"
    for name, given, allowed in (("state", states, STATES), ("sort", (sort.removeprefix("-"),), tuple(SORTS))):
        if not set(given) <= set(allowed):
            raise InvalidRequest.field((name,), f"there are {', '.join(allowed)}")
    return TableQuery(
        states=states,
        kind=handler.text_argument("kind"),
        family=handler.text_argument("family"),
        framework=handler.text_argument("framework"),
        dataset=handler.text_argument("dataset"),
        search=handler.text_argument("q"),
        sort=sort.removeprefix("-"),
        descending=sort.startswith("-"),
        page=handler.number_argument("page", 1, 1, 10**6),
        limit=handler.number_argument("limit", 25, 1, 100),
    )


class JobsPage(Page):
    tab = "jobs"

    async def get(self) -> None:
        query = table_query(self)
        table, datasets = await self.query(
            lambda conn: (jobs_table(conn, self.owner, query), datasets_used(conn, self.owner))
        )
        filters = {"kind": KINDS, "family": FAMILIES, "framework": FRAMEWORKS, "dataset": tuple(datasets)}
        self.show("ns_jobs.html", "Jobs", table, filters=filters, states=STATES)


class JobsData(Data):
    async def get(self) -> None:
        query = table_query(self)
        table: dict[str, Any] = await self.query(lambda conn: jobs_table(conn, self.owner, query))
        self.answer(table)
