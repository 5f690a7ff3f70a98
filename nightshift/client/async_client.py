"""The SDK for asyncio: the calls of `Client`, awaited.

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

from nightshift.client import endpoint, event_stream, model_requests, requests, types, uploads, webhook_requests
from nightshift.client.downloads import ArtifactFacts, HashVerifier, JobFacts, atomic_write, named, safe_join
from nightshift.client.requests import Call, Spec
from nightshift.client.resources import Dataset
from nightshift.client.retry import ANSWER_TIMEOUT
from nightshift.client.transport import AsyncTransport
from nightshift.client.types import Event

P = ParamSpec("P")
T = TypeVar("T")


def _sent(call: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Awaitable[T]]:
    """A client's method from a call."""

    @functools.wraps(call)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.run(call(*args, **kwargs))

    return method


def _of_job(call: Callable[Concatenate[str, P], Call[T]]) -> Callable[Concatenate[AsyncJob, P], Awaitable[T]]:
    """A job's method from a call that takes its id first."""

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
        await self._transport.close()

    # -- jobs -------------------------------------------------------------------------------------

    async def submit(self, spec: Spec | None = None, idempotency_key: str | None = None, **fields: Any) -> AsyncJob:
        """Submit a job: a spec, or its fields by keyword (`kind="train", model={…}, dataset="digits"`).

        The same key and spec twice give the same job. Raises `InvalidRequest` that names each wrong field.
        """
        return AsyncJob(self, await self._transport.run(requests.submit(spec, idempotency_key, **fields)))

    async def job(self, job_id: str) -> AsyncJob:
        """The job with this id, or with the only id that begins so (4 characters or more)."""
        return AsyncJob(self, await self._transport.run(requests.job(job_id)))

    async def jobs(
        self,
        *,
        state: str | None = None,
        kind: str | None = None,
        family: str | None = None,
        tag: str | None = None,
        search: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[AsyncJob]:
        """Newest first, fetched page by page; `limit` is the most that come (None: all). `search` is words and
        conditions, as in `"nightly test_accuracy > 0.95 lr < 0.01"`."""
        pages = requests.jobs(state=state, kind=kind, family=family, tag=tag, search=search, limit=limit)
        while (ask := pages.next()) is not None:
            for data in pages.take(await self._transport.ask(ask)):
                yield AsyncJob(self, data)

    # -- what is there ----------------------------------------------------------------------------

    workers, families = _sent(requests.workers), _sent(requests.families)
    datasets, dataset = _sent(requests.datasets), _sent(requests.dataset)

    async def dataset_sample(self, name: str) -> bytes:
        """A look at a data set: a PNG of images, or the beginning of a text in UTF-8."""
        async with self._transport.stream(f"{requests.dataset_path(name)}/sample") as answer:
            return await answer.aread()

    async def add_dataset(self, name: str, path: str | Path, format: str | None = None) -> Dataset:
        """Registers a file or a folder of this machine as a new version of the data set `name`."""
        with uploads.opened(Path(path)) as file:
            return Dataset(await self._transport.ask(requests.add_dataset(file, name, format)))

    async def append_to_dataset(self, name: str, path: str | Path, format: str | None = None) -> Dataset:
        """Makes a new version: the rows of the newest, then those of a file or a folder of this machine."""
        with uploads.opened(Path(path)) as file:
            return Dataset(await self._transport.ask(requests.append_to_dataset(file, name, format)))

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
        """The files of a version (`digits`, `digits@3`, `digits@alias`) as one zip, streamed to the file `to`."""
        async with self._transport.stream(model_requests.files_path(ref)) as answer:
            with atomic_write(Path(to)) as file:
                async for chunk in answer.aiter_bytes():
                    file.write(chunk)
        return Path(to)

    schedules, schedule = _sent(model_requests.schedules), _sent(model_requests.schedule)
    add_schedule, change_schedule = _sent(model_requests.add_schedule), _sent(model_requests.change_schedule)
    delete_schedule, preview_schedule = _sent(model_requests.delete_schedule), _sent(model_requests.preview_schedule)
    schedule_history = _sent(model_requests.schedule_history)

    async def run_schedule(self, schedule: str) -> AsyncJob:
        """Its job, now."""
        return AsyncJob(self, await self._transport.run(model_requests.run_schedule(schedule)))


class AsyncJob(JobFacts):
    """`Job` for asyncio."""

    def __init__(self, client: AsyncClient, data: Any) -> None:
        super().__init__(data)
        self._client, self._transport = client, client._transport

    async def refresh(self) -> AsyncJob:
        self.data = await self._transport.run(requests.job(self.id))
        return self

    # -- requests ---------------------------------------------------------------------------------

    async def cancel(self) -> AsyncJob:
        return await self._control("cancel")

    async def finish(self) -> AsyncJob:
        """Stop now and keep the best model as the result."""
        return await self._control("finish")

    async def pause(self) -> AsyncJob:
        return await self._control("pause")

    async def resume(self) -> AsyncJob:
        return await self._control("resume")

    async def edit(self, **changes: Any) -> AsyncJob:
        """Another `name`, `notes`, `tags` (those named are set, or with None removed) or, while it waits,
        `priority`."""
        self.data = await self._transport.run(requests.edit(self.id, **changes))
        return self

    async def rerun(self, set: Mapping[str, Any] | None = None, idempotency_key: str | None = None) -> AsyncJob:
        """A new job with this one's spec, changed by `set`: values by dotted path, such as `{"training.epochs":
        10}`."""
        return AsyncJob(self._client, await self._transport.run(requests.rerun(self.id, set, idempotency_key)))

    async def archive(self) -> AsyncJob:
        """Put it out of sight when it has ended; nothing is lost."""
        return await self._control("archive")

    async def unarchive(self) -> AsyncJob:
        return await self._control("unarchive")

    async def delete(self) -> None:
        """For good, with its files. Raises `Conflict` while it has not ended or something needs it."""
        await self._transport.run(requests.delete(self.id))

    async def _control(self, verb: str) -> AsyncJob:
        self.data = await self._transport.run(requests.control(self.id, verb))
        return self

    # -- following --------------------------------------------------------------------------------

    def events(
        self,
        after: int | None = None,
        *,
        patience: float = 300.0,
        on_drop: event_stream.OnDrop | None = None,
        only: str | None = None,
    ) -> AsyncIterator[Event]:
        """What happens to the job, from the beginning or after an event's id, until it is final; `only` one type of it.

        A dropped connection is taken up where it broke; nothing comes twice and nothing is missed. Raises
        `Unavailable` when the API cannot be reached for `patience` seconds.
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
        """Returns when the job is final. Raises `JobFailed` when it failed and `JobCancelled` when it was cancelled
        (`check=False`: neither; look at `state`), `TimeoutError` after `timeout` seconds, and `Unavailable` when the
        API cannot be reached for `patience` seconds."""
        async with asyncio.timeout(timeout):
            if not await self._is_final():
                async for _ in self.events(patience=patience, only="state"):
                    pass
                await self.refresh()
        if check:
            self.raise_unless_succeeded()
        return self

    # -- what it leaves ---------------------------------------------------------------------------

    why, metrics, logs = _of_job(requests.why), _of_job(requests.metrics), _of_job(requests.logs)
    attempts, checkpoints = _of_job(requests.attempts), _of_job(requests.checkpoints)
    system = _of_job(requests.system)

    async def artifacts(self) -> list[AsyncArtifact]:
        return [AsyncArtifact(self, data) for data in await self._transport.run(requests.artifacts(self.id))]

    @overload
    async def artifact(self, path: str) -> bytes: ...

    @overload
    async def artifact(self, path: str, to: str | Path) -> Path: ...

    async def artifact(self, path: str, to: str | Path | None = None) -> bytes | Path:
        """One artifact, e.g. `"evaluation.json"`: its content, or with `to` the file it was streamed to."""
        artifact = named(self.id, await self.artifacts(), path)
        return await artifact.read() if to is None else await artifact.save(to)

    async def download(self, folder: str | Path, paths: Iterable[str] | None = None) -> list[Path]:
        """Writes artifacts (all, or those named) below `folder`; the files written."""
        there = await self.artifacts()
        chosen = there if paths is None else [named(self.id, there, path) for path in paths]
        return [await artifact.download(folder) for artifact in chosen]


class AsyncArtifact(ArtifactFacts):
    def __init__(self, job: AsyncJob, data: types.ArtifactData) -> None:
        super().__init__(data)
        self._job = job

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def save(self, file: str | Path) -> Path:
        """Streams it to `file`; a partial or damaged one is never left there."""
        target = Path(file)
        with atomic_write(target) as partial:
            async for chunk in self.chunks():
                partial.write(chunk)
        return target

    async def download(self, folder: str | Path) -> Path:
        """Writes the file below `folder` under its own path."""
        return await self.save(safe_join(folder, self.path))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its content piece by piece; raises `DamagedDownload` at the end if it was not the whole."""
        checked = HashVerifier(self.data)
        path = f"jobs/{self._job.id}/artifacts/{quote(self.path)}"
        try:
            async with self._job._transport.stream(path) as response:
                async for chunk in response.aiter_bytes():
                    yield checked.feed(chunk)
        except event_stream.StreamDropped as error:
            raise checked.broken(error) from error
        checked.finish()
