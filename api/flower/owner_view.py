"""Flower's tasks and workers, restricted to one owner. Flower itself holds those of all owners in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from flower.api.tasks import ListTasks, TaskInfo
from flower.api.workers import ListWorkers
from flower.views.tasks import TasksDataTable
from flower.views.workers import WorkerView

from api.flower.site import Site

#: Lists of tasks in a worker's state.
_REQUESTS = ("active", "reserved")


class Seen:
    """Flower's application with the tasks of one owner only: handlers read its `events` and `workers`.

    A task belongs to the owner of the job that its attempt runs (reconcile.py); without an attempt it has no owner.
    """

    def __init__(self, application: Any, owner: str) -> None:
        self._application = application
        state = application.events.state
        self._tasks = {
            task_id: task for task_id, task in state.tasks.data.items() if getattr(task, "owner_id", None) == owner
        }
        self.events = SimpleNamespace(
            state=SimpleNamespace(tasks=self._tasks, search_engine=state.search_engine, workers=state.workers)
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._application, name)

    @property
    def workers(self) -> dict[str, dict[str, Any]]:
        """Return the workers, with the owner's tasks only."""
        return {name: self._worker(info) for name, info in self._application.workers.items()}

    def _worker(self, info: dict[str, Any]) -> dict[str, Any]:
        """Replace the arguments of doorbells, which may name another owner's job, by those of the attempt."""
        shown = {
            key: [self._request(item) for item in info.get(key, ()) if item["id"] in self._tasks] for key in _REQUESTS
        }
        shown["revoked"] = [task_id for task_id in info.get("revoked", ()) if task_id in self._tasks]
        shown["scheduled"] = []  # our tasks never are
        return info | {key: value for key, value in shown.items() if key in info}

    def _request(self, item: dict[str, Any]) -> dict[str, Any]:
        task = self._tasks[item["id"]]
        return item | {"args": task.args, "kwargs": task.kwargs}


class _ByOwner:
    """Mixin for handlers of Flower that shows them only the tasks of the key's owner."""

    def prepare(self: Any) -> None:
        super().prepare()  # type: ignore[misc]
        _ = self.current_user  # raises 401
        site: Site = self.settings["nightshift"]
        owner = site.owner(self.principal)
        if owner is not None:
            self.application = Seen(self.application, owner)


class Tasks(_ByOwner, ListTasks):  # type: ignore[misc]
    """Flower's API: the list of tasks."""


class Task(_ByOwner, TaskInfo):  # type: ignore[misc]
    """Flower's API: one task."""


class Table(_ByOwner, TasksDataTable):  # type: ignore[misc]
    """The data of Flower's table of tasks."""


class Workers(_ByOwner, ListWorkers):  # type: ignore[misc]
    """Flower's API: the workers."""


class Worker(_ByOwner, WorkerView):  # type: ignore[misc]
    """Flower's page of a worker, without its buttons: their requests are refused (pages/tasks.py)."""

    def render(self, template: str, **values: Any) -> None:
        super().render(template, **values | {"read_only": True} if "read_only" in values else values)
