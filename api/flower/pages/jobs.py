"""The table of jobs and its data."""

from __future__ import annotations

from typing import Any

from api.flower.pages.base import Handler, Page, message_for
from nightshift.errors import InvalidRequest
from nightshift.names import FRAMEWORKS, KINDS
from nightshift.states import JobState
from shared.jobs.queries.available_columns import available_columns
from shared.jobs.queries.columns import ColumnKey, parse_key
from shared.jobs.queries.table import TableQuery, datasets_used, jobs_table
from shared.specs.families import FAMILIES

STATES = tuple(state.value for state in JobState)
#: Largest number of columns.
MAX_COLUMNS = 40
#: Longest search (characters).
LONGEST_SEARCH = 600


def table_query(handler: Handler) -> TableQuery:
    """Return the query in the URL, the same for the page and its data. Raises InvalidRequest."""
    states = tuple(filter(None, (handler.text_argument("state") or "").split(",")))
    if not set(states) <= set(STATES):
        raise InvalidRequest.field(("state",), f"must be one of {', '.join(STATES)}")
    sort = handler.text_argument("sort") or "-created"
    parse_key(sort.removeprefix("-"))
    return TableQuery(
        states=states,
        kind=handler.text_argument("kind"),
        family=handler.text_argument("family"),
        framework=handler.text_argument("framework"),
        dataset=handler.text_argument("dataset"),
        search=handler.text_argument("q", LONGEST_SEARCH),
        sort=sort.removeprefix("-"),
        columns=columns_argument(handler),
        descending=sort.startswith("-"),
        page=handler.number_argument("page", 1, 1, 10**6),
        limit=handler.number_argument("limit", 25, 1, 100),
    )


def columns_argument(handler: Handler) -> tuple[ColumnKey, ...]:
    """Return the columns of `?columns=`. Raises InvalidRequest."""
    keys = list(dict.fromkeys(filter(None, (handler.text_argument("columns", 2_000) or "").split(","))))
    if len(keys) > MAX_COLUMNS:
        raise InvalidRequest.field(("columns",), f"at most {MAX_COLUMNS} columns")
    return tuple(parse_key(key) for key in keys)


async def table(handler: Handler, query: TableQuery) -> dict[str, Any]:
    """Return `jobs_table`; a search that cannot be parsed (yet) is reported in `problem`."""
    try:
        return await handler.query(lambda conn: jobs_table(conn, handler.owner, query))
    except InvalidRequest as error:
        nothing = {"items": [], "total": 0, "more": False, "page": 1, "pages": 1}
        counts = dict.fromkeys(STATES, 0)
        return nothing | {"counts": counts, "more_counts": False, "problem": message_for(error)}


class JobsPage(Page):
    """The page."""

    tab = "jobs"

    async def get(self) -> None:
        query = table_query(self)
        datasets = await self.query(lambda conn: datasets_used(conn, self.owner))
        filters = {"kind": KINDS, "family": tuple(FAMILIES), "framework": FRAMEWORKS, "dataset": tuple(datasets)}
        self.show("ns_jobs.html", "Jobs", await table(self, query), filters=filters, states=STATES)


async def rows(handler: Handler) -> dict[str, Any]:
    """Return the rows of the table."""
    return await table(handler, table_query(handler))


async def columns(handler: Handler) -> dict[str, Any]:
    """Return the choices of the Columns menu."""
    return await handler.query(lambda conn: available_columns(conn, handler.owner))
