"""The page of one Celery task, and the requests about tasks and workers that Flower's own API accepts.

A task is an attempt at a job, so its page shows facts from SQL, and revoking it requests to cancel the job. All other
commands that Flower can send to workers are refused: workers manage their queues, pool and limits themselves.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import tornado.web

from api.flower.attempts import Attempt, by_task
from api.flower.pages.base import Data, Handler, Page
from api.services import job_actions
from nightshift.errors import Conflict, NotFound
from shared.clock import iso

_NO_CONTROL = (
    "Workers cannot be changed through Flower: each manages its own queues and has one thread and no limits. "
    "Send SIGTERM to its process to make it write a checkpoint and stop."
)
_NO_SENDING = (
    "Tasks cannot be sent through Flower: submit a job (POST /v1/jobs, `nightshift submit`, or New job on its page)."
)
_NO_RESULT = "Celery stores no results: see the job's page or GET /v1/jobs/{id}."


async def attempt_of(handler: Handler, task_id: str) -> Attempt:
    """Return the attempt behind a task. Raises NotFound, also if its job is another owner's."""
    found = await handler.off_loop(lambda: by_task(handler.site.engine, [task_id]))
    if not found or handler.owner not in (None, found[-1].owner_id):
        raise NotFound(f"No task {task_id[:64]!r} belongs to a job of yours.")
    return found[-1]


class TaskPage(Page):
    """The page of a task."""

    tab = "tasks"

    async def get(self, task_id: str) -> None:
        attempt = await attempt_of(self, task_id)
        times = {"started_at": iso(attempt.started_at), "ended_at": iso(attempt.ended_at)}
        self.show("ns_task.html", f"Task {task_id[:8]}", asdict(attempt) | times, attempt=attempt)


class Answer(Data):
    """Answers like Flower's API: an error is a plain sentence."""

    def show_error(self, status_code: int, message: str) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(message)


class Revoke(Answer):
    """Requests to cancel the job behind the task, with or without `terminate`."""

    async def post(self, task_id: str) -> None:
        if self.site.read_only:
            raise tornado.web.HTTPError(403, "Flower is read-only here (NIGHTSHIFT_FLOWER_READ_ONLY).")
        attempt = await attempt_of(self, task_id)
        if attempt.outcome is not None:
            raise Conflict(f"This attempt has ended ({attempt.outcome}); cancel its job {attempt.job_id} instead.")
        cancel = partial(job_actions.act, self.site.service, attempt.job_id, attempt.owner_id, "cancel")
        await self.off_loop(cancel)
        self.answer({"message": f"Cancel requested: job {attempt.job_id} stops at the next step."})


class Refused(Answer):
    """A route of Flower that is disabled for every key."""

    def initialize(self, why: str, status: int = 403) -> None:
        self._why, self._status = why, status

    def _refuse(self, *_: Any) -> None:
        raise tornado.web.HTTPError(self._status, self._why)

    get = post = _refuse


#: Rules for handlers.py.
HANDLERS: list[Any] = [
    (r"/task/(.+)", TaskPage),
    (r"/api/task/revoke/(.+)", Revoke),
    (r"/api/worker/.*", Refused, {"why": _NO_CONTROL}),
    (r"/api/task/(?:timeout|rate-limit|abort)/.*", Refused, {"why": _NO_CONTROL}),
    (r"/api/task/(?:apply|async-apply|send-task)/.*", Refused, {"why": _NO_SENDING}),
    (r"/api/task/result/.*", Refused, {"why": _NO_RESULT, "status": 404}),
]
