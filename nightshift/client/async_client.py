"""The client for asyncio: the calls of `Client`, awaited.

async with AsyncClient() as nightshift:
    job = await nightshift.submit({"kind": "train", "model": {"family": "cnn"}, "dataset": "digits"})
    async for event in job.events():
        print(event.type, event.data)
    await job.wait()
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, overload
from urllib.parse import quote

import httpx

from nightshift.client import (
    endpoint,
    event_stream,
    model_requests,
    requests,
    sweep_requests,
    types,
    uploads,
    webhook_requests,
)
from nightshift.client.downloads import ArtifactFacts, HashVerifier, JobFacts, atomic_write, named, safe_join
from nightshift.client.requests import Call, Spec
from nightshift.client.resources import Dataset
from nightshift.client.retry import ANSWER_TIMEOUT
from nightshift.client.sweeps import AsyncSweep
from nightshift.client.transport import AsyncTransport
from nightshift.client.types import BatchItem, Event
from nightshift.names import FILES

P = ParamSpec("P")
T = TypeVar("T")


def _sent(call: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Awaitable[T]]:
    """Return a client's method that runs a call."""

    @functools.wraps(call)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.run(call(*args, **kwargs))

    return method


def _of_job(call: Callable[Concatenate[str, P], Call[T]]) -> Callable[Concatenate[AsyncJob, P], Awaitable[T]]:
    """Return a job's method that runs a call whose first argument is the job's id."""

    @functools.wraps(call)
    async def method(self: AsyncJob, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.run(call(self.id, *args, **kwargs))

    return method


class AsyncClient:
    """`Client` for asyncio."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        data_dir: str | Path | None = None,
        retries: int = 4,
        timeout: float = ANSWER_TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.endpoint = endpoint.find(url, key, data_dir)
        self._transport = AsyncTransport(self.endpoint, retries=retries, timeout=timeout, transport=transport)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    # -- jobs -------------------------------------------------------------------------------------

    async def submit(self, spec: Spec | None = None, idempotency_key: str | None = None, **fields: Any) -> AsyncJob:
        """Submit a job: a spec, or its fields by keyword (`kind="train", model={…}, dataset="digits"`).

        Submitting the same spec twice with the same `idempotency_key` returns the same job. Raises `InvalidRequest`,
        whose `errors` name each wrong field.
        """
        return AsyncJob(self, await self._transport.run(requests.submit(spec, idempotency_key, **fields)))

    async def submit_batch(
        self, specs: Iterable[Spec], idempotency_key: str | None = None, *, each: bool = False
    ) -> list[BatchItem]:
        """Submit up to 1,000 jobs in one transaction; return what became of each, in order.

        All or none: `InvalidRequest` names the place of each refused job. With `each` the others are submitted, and the
        item of a refused job has an `error`. The same batch with the same `idempotency_key` returns the same jobs.
        """
        return await self._transport.run(requests.submit_batch(specs, idempotency_key, each=each))

    async def job(self, job_id: str) -> AsyncJob:
        """Return a job by its id or a unique prefix of it (4 characters or more).

        Raises `NotFound`, and `Conflict` for a prefix that several jobs share.
        """
        return AsyncJob(self, await self._transport.run(requests.job(job_id)))

    async def jobs(
        self,
        *,
        state: str | None = None,
        kind: str | None = None,
        family: str | None = None,
        tag: str | None = None,
        search: str | None = None,
        sweep: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[AsyncJob]:
        """Iterate over the jobs that match all filters, newest first, at most `limit` (None: all).

        Pages are requested as needed. `search` has words and conditions: `"nightly test_accuracy > 0.95 lr < 0.01"`.
        `sweep` is the id of a sweep: the jobs of its trials.
        """
        filters = {"state": state, "kind": kind, "family": family, "tag": tag, "search": search, "sweep": sweep}
        pages = requests.jobs(**filters, limit=limit)
        while (request := pages.next()) is not None:
            for data in pages.take(await self._transport.send(request)):
                yield AsyncJob(self, data)

    # -- workers, families, data sets -------------------------------------------------------------

    workers, families, programs = _sent(requests.workers), _sent(requests.families), _sent(requests.programs)
    devices, cordon = _sent(requests.devices), _sent(requests.cordon)
    drain, uncordon, forget = _sent(requests.drain), _sent(requests.uncordon), _sent(requests.forget)
    model_summary = _sent(requests.model_summary)
    datasets, dataset = _sent(requests.datasets), _sent(requests.dataset)

    async def dataset_sample(self, name: str) -> bytes:
        """Return a sample of a data set: a PNG of images, or the first texts in UTF-8."""
        async with self._transport.stream(f"{requests.dataset_path(name)}/sample") as answer:
            return await answer.aread()

    async def add_dataset(
        self, name: str, path: str | Path, format: str | None = None, *, kind: str | None = None
    ) -> Dataset:
        """Upload a local file or folder as a new version of the data set `name`.

        `kind` is image, text, files or table, and `format`, of images and text, one of `nightshift.names.FORMATS`. By
        default both are detected, but for files and for a table from CSV the kind is needed. Raises `InvalidRequest`.
        """
        with uploads.opened(Path(path), all_files=kind == FILES) as file:
            return Dataset(await self._transport.send(requests.add_dataset(file, name, format, kind)))

    async def append_to_dataset(self, name: str, path: str | Path, format: str | None = None) -> Dataset:
        """Create a new version: the rows of the newest one, followed by those of a local file or folder."""
        with uploads.opened(Path(path)) as file:
            return Dataset(await self._transport.send(requests.append_to_dataset(file, name, format)))

    delete_dataset_version = _sent(requests.delete_dataset_version)

    webhooks, webhook = _sent(webhook_requests.webhooks), _sent(webhook_requests.webhook)
    add_webhook, change_webhook = _sent(webhook_requests.add_webhook), _sent(webhook_requests.change_webhook)
    remove_webhook, rotate_webhook = _sent(webhook_requests.remove_webhook), _sent(webhook_requests.rotate_webhook)
    test_webhook, redeliver = _sent(webhook_requests.test_webhook), _sent(webhook_requests.redeliver)
    deliveries, delivery = _sent(webhook_requests.deliveries), _sent(webhook_requests.delivery)

    models, model = _sent(model_requests.models), _sent(model_requests.model)
    promote, rollback = _sent(model_requests.promote), _sent(model_requests.rollback)
    delete_version, compare = _sent(model_requests.delete_version), _sent(model_requests.compare)
    model_history, register_model = _sent(model_requests.model_history), _sent(model_requests.register_model)
    describe_model, change_version = _sent(model_requests.describe_model), _sent(model_requests.change_version)

    async def download_model(self, ref: str, to: str | Path) -> Path:
        """Download the files of a version (`digits`, `digits@3`, `digits@alias`) as a zip to the file `to`."""
        return await self._save(model_requests.files_path(ref), to)

    async def export_model(self, ref: str, to: str | Path, format: str = "onnx") -> Path:
        """Download the network of a version with its weights as one file. Raises `NotFound` if it has none."""
        return await self._save(model_requests.export_path(ref, format), to)

    async def _save(self, path: str, to: str | Path) -> Path:
        async with self._transport.stream(path) as answer:
            with atomic_write(Path(to)) as file:
                async for chunk in answer.aiter_bytes():
                    file.write(chunk)
        return Path(to)

    schedules, schedule = _sent(model_requests.schedules), _sent(model_requests.schedule)
    add_schedule, change_schedule = _sent(model_requests.add_schedule), _sent(model_requests.change_schedule)
    delete_schedule, preview_schedule = _sent(model_requests.delete_schedule), _sent(model_requests.preview_schedule)
    schedule_history = _sent(model_requests.schedule_history)

    async def run_schedule(self, schedule: str) -> AsyncJob:
        """Submit the schedule's job now, even while the schedule is paused, and return it."""
        return AsyncJob(self, await self._transport.run(model_requests.run_schedule(schedule)))

    # -- sweeps -----------------------------------------------------------------------------------

    async def submit_sweep(
        self, spec: Mapping[str, Any] | None = None, idempotency_key: str | None = None, **fields: Any
    ) -> AsyncSweep:
        """Submit a sweep: a spec, or its fields by keyword (`job={…}, space={…}, objective={…}, trials=40`).

        Submitting the same spec twice with the same `idempotency_key` returns the same sweep. Raises `InvalidRequest`,
        whose `errors` name each wrong field and bound.
        """
        return AsyncSweep(self, await self._transport.run(sweep_requests.submit_sweep(spec, idempotency_key, **fields)))

    async def sweep(self, sweep_id: str) -> AsyncSweep:
        """Return a sweep with its trials, by its id or a unique prefix of it. Raises `NotFound`, `Conflict`."""
        return AsyncSweep(self, await self._transport.run(sweep_requests.sweep(sweep_id)))

    async def sweeps(self, *, limit: int | None = None) -> AsyncIterator[AsyncSweep]:
        """Iterate over the sweeps without their trials, newest first, at most `limit` (None: all)."""
        pages = sweep_requests.sweeps(limit)
        while (request := pages.next()) is not None:
            for data in pages.take(await self._transport.send(request)):
                yield AsyncSweep(self, data)


class AsyncJob(JobFacts):
    """`Job` for asyncio."""

    def __init__(self, client: AsyncClient, data: Any) -> None:
        super().__init__(data)
        self._client, self._transport = client, client._transport

    async def refresh(self) -> AsyncJob:
        """Update `data` from the API and return this job."""
        self.data = await self._transport.run(requests.job(self.id))
        return self

    # -- changes ----------------------------------------------------------------------------------

    async def cancel(self) -> AsyncJob:
        """Request the job to stop; no result is kept. Raises `Conflict` if it has ended."""
        return await self._control("cancel")

    async def finish(self) -> AsyncJob:
        """Request a running job to stop now and keep its best model as the result."""
        return await self._control("finish")

    async def pause(self) -> AsyncJob:
        """Request the job to stop at a checkpoint, until `resume`."""
        return await self._control("pause")

    async def resume(self) -> AsyncJob:
        """Queue a paused job again; it resumes from its checkpoint. Raises `Conflict` if it is not paused."""
        return await self._control("resume")

    async def edit(self, **changes: Any) -> AsyncJob:
        """Change `name`, `notes`, `tags` (a value of None removes the tag) or, before the job runs, `priority`."""
        self.data = await self._transport.run(requests.edit(self.id, **changes))
        return self

    async def rerun(self, set: Mapping[str, Any] | None = None, idempotency_key: str | None = None) -> AsyncJob:
        """Submit a copy of this job, changed by `set`: values by dotted path, such as `{"training.epochs": 10}`.

        `name`, `register_as` and `promote` are not copied; `set` may hold them.
        """
        return AsyncJob(self._client, await self._transport.run(requests.rerun(self.id, set, idempotency_key)))

    async def archive(self) -> AsyncJob:
        """Hide a finished job from lists. Nothing is deleted. Raises `Conflict` while it has not ended."""
        return await self._control("archive")

    async def unarchive(self) -> AsyncJob:
        """Show an archived job in lists again."""
        return await self._control("unarchive")

    async def delete(self) -> None:
        """Delete the job and its files. Raises `Conflict` while it has not ended or something needs it."""
        await self._transport.run(requests.delete(self.id))

    async def _control(self, verb: str) -> AsyncJob:
        self.data = await self._transport.run(requests.control(self.id, verb))
        return self

    # -- events -----------------------------------------------------------------------------------

    def events(
        self,
        after: int | None = None,
        *,
        patience: float = 300.0,
        on_drop: event_stream.OnDrop | None = None,
        only: str | None = None,
    ) -> AsyncIterator[Event]:
        """Iterate over the job's events, from the first or after the id `after`, until the job is final.

        `only` selects one type. After a dropped connection the stream resumes: no event is repeated or lost.
        `on_drop` is called with the error of each drop. Raises `Unavailable` if the API is unreachable for `patience`
        seconds.
        """

        @asynccontextmanager
        async def connect(after: int | None) -> AsyncIterator[AsyncIterable[bytes]]:
            path, params = f"jobs/{self.id}/events", {"type": only} if only else None
            async with self._transport.stream(path, headers=event_stream.headers(after), params=params) as response:
                yield response.aiter_bytes()

        return event_stream.follow_async(connect, self._is_final, after=after, patience=patience, on_drop=on_drop)

    async def _is_final(self) -> bool:
        return (await self.refresh()).is_final

    async def wait(self, timeout: float | None = None, *, check: bool = True, patience: float = 300.0) -> AsyncJob:
        """Wait until the job is final, and return it.

        Raises `JobFailed` or `JobCancelled` unless it succeeded (not with `check=False`), `TimeoutError` after
        `timeout` seconds, and `Unavailable` if the API is unreachable for `patience` seconds.
        """
        async with asyncio.timeout(timeout):
            if not await self._is_final():
                async for _ in self.events(patience=patience, only="state"):
                    pass
                await self.refresh()
        if check:
            self.raise_unless_succeeded()
        return self

    # -- outputs ----------------------------------------------------------------------------------

    why, metrics, logs = _of_job(requests.why), _of_job(requests.metrics), _of_job(requests.logs)
    attempts, checkpoints = _of_job(requests.attempts), _of_job(requests.checkpoints)
    shards = _of_job(requests.shards)
    system = _of_job(requests.system)

    async def artifacts(self) -> list[AsyncArtifact]:
        """Return the job's artifacts."""
        return [AsyncArtifact(self, data) for data in await self._transport.run(requests.artifacts(self.id))]

    @overload
    async def artifact(self, path: str) -> bytes: ...

    @overload
    async def artifact(self, path: str, to: str | Path) -> Path: ...

    async def artifact(self, path: str, to: str | Path | None = None) -> bytes | Path:
        """Return the content of an artifact, e.g. `"evaluation.json"`; with `to`, save it to that file instead.

        Raises `NotFound`, and `DamagedDownload` if the content does not match its SHA-256.
        """
        artifact = named(self.id, await self.artifacts(), path)
        return await artifact.read() if to is None else await artifact.save(to)

    async def download(self, folder: str | Path, paths: Iterable[str] | None = None) -> list[Path]:
        """Save artifacts (all, or those in `paths`) below `folder` and return the files written."""
        found = await self.artifacts()
        chosen = found if paths is None else [named(self.id, found, path) for path in paths]
        return [await artifact.download(folder) for artifact in chosen]


class AsyncArtifact(ArtifactFacts):
    """`Artifact` for asyncio."""

    def __init__(self, job: AsyncJob, data: types.ArtifactData) -> None:
        super().__init__(data)
        self._job = job

    async def read(self) -> bytes:
        """Return the content. Raises `DamagedDownload` if it does not match its SHA-256."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def save(self, file: str | Path) -> Path:
        """Save the artifact to `file`. Raises `DamagedDownload`; a partial or damaged file is not left behind."""
        target = Path(file)
        with atomic_write(target) as partial:
            async for chunk in self.chunks():
                partial.write(chunk)
        return target

    async def download(self, folder: str | Path) -> Path:
        """Save the artifact below `folder`, under its own path, and return the file."""
        return await self.save(safe_join(folder, self.path))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Iterate over the content in chunks. Raises `DamagedDownload` at the end if the SHA-256 does not match."""
        checked = HashVerifier(self.data)
        path = f"jobs/{self._job.id}/artifacts/{quote(self.path)}"
        try:
            async with self._job._transport.stream(path) as response:
                async for chunk in response.aiter_bytes():
                    yield checked.feed(chunk)
        except event_stream.StreamDropped as error:
            raise checked.broken(error) from error
        checked.finish()
