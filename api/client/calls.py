"""The SDK's calls about schedules and models; `sdk.Client` is made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from api.client.transport import Transport

if TYPE_CHECKING:
    from api.client.sdk import Job

Data = dict[str, Any]


def _body(data: Data) -> Data:
    """NaN and the like go through: the API says which field holds them."""
    return {"content": json.dumps(data).encode(), "headers": {"content-type": "application/json"}}


class _Calls:
    _transport: Transport

    def _items(self, path: str, params: Data | None = None, limit: int | None = None) -> Iterator[Data]:
        raise NotImplementedError


class ModelCalls(_Calls):
    def models(self) -> list[Data]:
        return list(self._items("models"))

    def model(self, name: str) -> Data:
        return cast("Data", self._transport.json("GET", _model(name)))

    def promote(self, name: str, version: int, alias: str = "champion", reason: str | None = None) -> Data:
        """Points an alias at a version, atomically; the model as it is then."""
        body = _body({"version": version, "reason": reason})
        return cast("Data", self._transport.json("PUT", f"{_model(name)}/aliases/{quote(alias, safe='')}", **body))

    def rollback(self, name: str, alias: str = "champion", reason: str | None = None) -> Data:
        """Points an alias back at where it was; raises `Conflict` when there is nothing before."""
        body = _body({"alias": alias, "reason": reason})
        return cast("Data", self._transport.json("POST", f"{_model(name)}/rollback", safe=False, **body))

    def delete_version(self, name: str, version: int) -> None:
        """Raises `Conflict` while an alias or a job that is not final holds it."""
        self._transport.delete(f"{_model(name)}/versions/{version}")

    def model_history(self, name: str, limit: int | None = None) -> list[Data]:
        """The audit of a model's aliases, newest first."""
        return list(self._items(f"{_model(name)}/history", None, limit))

    def compare(self, name: str, a: str | int, b: str | int) -> Data:
        """Two versions (numbers or aliases) with their metrics side by side."""
        params = {"a": str(a), "b": str(b)}
        return cast("Data", self._transport.json("GET", f"{_model(name)}/compare", params=params))


class ScheduleCalls(_Calls):
    """A schedule is named by its id or its name."""

    def schedules(self) -> list[Data]:
        return list(self._items("schedules"))

    def schedule(self, schedule: str) -> Data:
        return cast("Data", self._transport.json("GET", _schedule(schedule)))

    def add_schedule(self, spec: Data) -> Data:
        """`{"name": …, "cron": "0 2 * * *", "timezone": "Europe/Berlin", "job": {…}}`; raises `Conflict`: name taken."""
        return cast("Data", self._transport.json("POST", "schedules", safe=False, **_body(spec)))

    def change_schedule(self, schedule: str, **changes: Any) -> Data:
        """Fields that are not given stay; `enabled=False` pauses."""
        return cast("Data", self._transport.json("PATCH", _schedule(schedule), safe=True, **_body(changes)))

    def delete_schedule(self, schedule: str) -> None:
        self._transport.delete(_schedule(schedule))

    def run_schedule(self, schedule: str) -> Job:
        """Its job, now."""
        from api.client.sdk import Client, Job

        answer = self._transport.json("POST", f"{_schedule(schedule)}/run", safe=False)
        return Job(cast("Client", self), answer)

    def preview_schedule(self, schedule: str, n: int = 10) -> list[Data]:
        """The next times: `{utc, local, tick}`."""
        return list(self._items(f"{_schedule(schedule)}/preview", {"n": n}))

    def schedule_history(self, schedule: str, limit: int | None = None) -> list[Data]:
        """Ticks, newest first, each with its `outcome`, `job_id` and `reason`."""
        return list(self._items(f"{_schedule(schedule)}/history", None, limit))


def _model(name: str) -> str:
    return f"models/{quote(name, safe='')}"


def _schedule(schedule: str) -> str:
    return f"schedules/{quote(schedule, safe='')}"
