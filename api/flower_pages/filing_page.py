"""What is done to jobs from their pages once they are there: archive, bring back, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api import filing
from api.flower_pages.page import Action
from shared.jobs import queries


class FileJob(Action):
    """Answers the job, or for a deleted one null."""

    async def post(self, job_id: str, action: str) -> None:
        row = await self.query(lambda conn: queries.get_job(conn, job_id, self.owner))
        service, owner = self.site.service, str(row["owner_id"])
        works: dict[str, Callable[[], dict[str, Any] | None]] = {
            "archive": lambda: filing.archive(service, job_id, owner),
            "unarchive": lambda: filing.unarchive(service, job_id, owner),
            "delete": lambda: filing.delete(service, job_id, owner),
        }
        self.answer(await self.off_loop(works[action]))
