"""Flower's tasks and workers as one owner sees them. Flower keeps those of all in memory and knows no owners."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from flower.api.tasks import ListTasks, TaskInfo
from flower.api.workers import ListWorkers
from flower.views.tasks import TasksDataTable
from flower.views.workers import WorkerView

from api.flower.site import Site

#: Lists of tasks in what a worker says of itself.
_REQUESTS = ("active", "reserved")


class Seen:
    """Flower's application with the tasks of one owner only: handlers read `events` and `workers` of it.

    A task belongs to whoever owns the job that its attempt runs (truth.py); one that has no attempt belongs to nobody.
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
        return {name: self._worker(info) for name, info in self._application.workers.items()}

    def _worker(self, info: dict[str, Any]) -> dict[str, Any]:
        """A doorbell's arguments are advice and may name anybody's job: the attempt's own are told instead."""
        told = {
            key: [self._request(item) for item in info.get(key, ()) if item["id"] in self._tasks] for key in _REQUESTS
        }
        told["revoked"] = [task_id for task_id in info.get("revoked", ()) if task_id in self._tasks]
        told["scheduled"] = []  # nothing of ours is
        return info | {key: value for key, value in told.items() if key in info}

    def _request(self, item: dict[str, Any]) -> dict[str, Any]:
        task = self._tasks[item["id"]]
        return item | {"args": task.args, "kwargs": task.kwargs}


class _ByOwner:
    """Mixed into a handler of Flower's: it works on what the key's owner may see."""

    def prepare(self: Any) -> None:
        super().prepare()  # type: ignore[misc]
        _ = self.current_user  # raises 401
        site: Site = self.settings["nightshift"]
        owner = site.owner(self.principal)
        if owner is not None:
            self.application = Seen(self.application, owner)


class Tasks(_ByOwner, ListTasks):  # type: ignore[misc]
    pass


class Task(_ByOwner, TaskInfo):  # type: ignore[misc]
    pass


class Table(_ByOwner, TasksDataTable):  # type: ignore[misc]
    pass


class Workers(_ByOwner, ListWorkers):  # type: ignore[misc]
    pass


class Worker(_ByOwner, WorkerView):  # type: ignore[misc]
    """Without the buttons: what they do is refused (task_pages.py), and a pool of one thread does not grow."""

    def render(self, template: str, **values: Any) -> None:
        super().render(template, **values | {"read_only": True} if "read_only" in values else values)
