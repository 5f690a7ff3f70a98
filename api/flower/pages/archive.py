"""Actions on finished jobs: archive, unarchive, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api.flower.pages.base import Action
from api.services import archiving
from shared.jobs import queries


class ArchiveJob(Action):
    """Archives, unarchives or deletes a job; answers the job, or null for a deleted one."""

    async def post(self, job_id: str, action: str) -> None:
        row = await self.query(lambda conn: queries.get_job(conn, job_id, self.owner))
        service, owner = self.site.service, str(row["owner_id"])
        works: dict[str, Callable[[], dict[str, Any] | None]] = {
            "archive": lambda: archiving.archive(service, job_id, owner),
            "unarchive": lambda: archiving.unarchive(service, job_id, owner),
            "delete": lambda: archiving.delete(service, job_id, owner),
        }
        self.answer(await self.off_loop(works[action]))
