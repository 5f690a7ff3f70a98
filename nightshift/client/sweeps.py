"""A sweep of the blocking and of the asynchronous client."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

from nightshift.client import sweep_requests, types
from nightshift.client.event_stream import Deadline

if TYPE_CHECKING:
    from nightshift.client.async_client import AsyncClient, AsyncJob
    from nightshift.client.client import Client, Job

#: States that only `add_trials` changes.
_FINAL = ("succeeded", "failed", "stopped", "cancelled")
#: Seconds between two looks of `wait`.
POLL_SECONDS = 2.0


class SweepFacts:
    """A sweep. `data` is the API's last response about it."""

    def __init__(self, data: Any) -> None:
        self.data = cast("types.SweepData", data)

    def __repr__(self) -> str:
        done = f"{self.data.get('started')}/{self.data.get('trials')} trials"
        return f"<{type(self).__name__} {self.id} {self.state} {done}>"

    @property
    def id(self) -> str:
        """The sweep's id: 16 hexadecimal digits."""
        return self.data["id"]

    @property
    def state(self) -> str:
        """The sweep's state."""
        return self.data["state"]

    @property
    def is_final(self) -> bool:
        """Whether the sweep has ended."""
        return self.state in _FINAL

    @property
    def trials(self) -> list[types.TrialData]:
        """The trials, in order; empty for a sweep of a list, before `refresh`."""
        return cast("list[types.TrialData]", self.data.get("trial_list") or [])

    @property
    def best(self) -> types.TrialData | None:
        """The best trial so far; None while none has a value."""
        return next((trial for trial in self.trials if trial["number"] == self.data["best"]), None)

    @property
    def outcome(self) -> dict[str, Any] | None:
        """What was done with the best trial at the end; else None."""
        return self.data.get("outcome")

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(timeout, f"sweep {self.id} has not ended after {timeout} seconds")

    def _job_id(self, number: int) -> str:
        for trial in self.trials:
            if trial["number"] == number and trial["job_id"] is not None:
                return trial["job_id"]
        raise LookupError(f"sweep {self.id} has no trial {number} with a job")


class Sweep(SweepFacts):
    """A sweep. `data` is the API's last response about it; `refresh()` updates it."""

    def __init__(self, client: Client, data: Any) -> None:
        super().__init__(data)
        self._client, self._transport = client, client._transport

    def refresh(self) -> Sweep:
        """Update `data` from the API, with the trials, and return this sweep."""
        self.data = self._transport.run(sweep_requests.sweep(self.id))
        return self

    def pause(self) -> Sweep:
        """Start no further trial and pause the running jobs, until `resume`. Raises `Conflict` if it has ended."""
        return self._control("pause")

    def resume(self) -> Sweep:
        """Go on with a paused sweep and its jobs."""
        return self._control("resume")

    def stop(self) -> Sweep:
        """Let the running jobs finish with what they have, and keep the best trial."""
        return self._control("stop")

    def cancel(self) -> Sweep:
        """Cancel the sweep and its jobs; nothing is done with the best trial."""
        return self._control("cancel")

    def add_trials(self, count: int) -> Sweep:
        """Add trials; a sweep that has ended runs again."""
        self.data = self._transport.run(sweep_requests.add_trials(self.id, count))
        return self

    def delete(self) -> None:
        """Delete a sweep that has ended, with its trials; their jobs are kept. Raises `Conflict` before."""
        self._transport.run(sweep_requests.delete(self.id))

    def job(self, number: int) -> Job:
        """Return the job of a trial. Raises `NotFound` if it was deleted, `LookupError` without such a trial."""
        return self._client.job(self._job_id(number))

    def wait(self, timeout: float | None = None) -> Sweep:
        """Wait until the sweep has ended, and return it. Raises `TimeoutError` after `timeout` seconds."""
        deadline = self._deadline(timeout)
        while not (self.refresh()).is_final:
            deadline.check()
            time.sleep(min(POLL_SECONDS, deadline.left))
        return self

    def _control(self, verb: str) -> Sweep:
        self.data = self._transport.run(sweep_requests.control(self.id, verb))
        return self


class AsyncSweep(SweepFacts):
    """`Sweep` for asyncio."""

    def __init__(self, client: AsyncClient, data: Any) -> None:
        super().__init__(data)
        self._client, self._transport = client, client._transport

    async def refresh(self) -> AsyncSweep:
        """Update `data` from the API, with the trials, and return this sweep."""
        self.data = await self._transport.run(sweep_requests.sweep(self.id))
        return self

    async def pause(self) -> AsyncSweep:
        """Start no further trial and pause the running jobs, until `resume`. Raises `Conflict` if it has ended."""
        return await self._control("pause")

    async def resume(self) -> AsyncSweep:
        """Go on with a paused sweep and its jobs."""
        return await self._control("resume")

    async def stop(self) -> AsyncSweep:
        """Let the running jobs finish with what they have, and keep the best trial."""
        return await self._control("stop")

    async def cancel(self) -> AsyncSweep:
        """Cancel the sweep and its jobs; nothing is done with the best trial."""
        return await self._control("cancel")

    async def add_trials(self, count: int) -> AsyncSweep:
        """Add trials; a sweep that has ended runs again."""
        self.data = await self._transport.run(sweep_requests.add_trials(self.id, count))
        return self

    async def delete(self) -> None:
        """Delete a sweep that has ended, with its trials; their jobs are kept. Raises `Conflict` before."""
        await self._transport.run(sweep_requests.delete(self.id))

    async def job(self, number: int) -> AsyncJob:
        """Return the job of a trial. Raises `NotFound` if it was deleted, `LookupError` without such a trial."""
        return await self._client.job(self._job_id(number))

    async def wait(self, timeout: float | None = None) -> AsyncSweep:
        """Wait until the sweep has ended, and return it. Raises `TimeoutError` after `timeout` seconds."""
        deadline = self._deadline(timeout)
        while not (await self.refresh()).is_final:
            deadline.check()
            await asyncio.sleep(min(POLL_SECONDS, deadline.left))
        return self

    async def _control(self, verb: str) -> AsyncSweep:
        self.data = await self._transport.run(sweep_requests.control(self.id, verb))
        return self
