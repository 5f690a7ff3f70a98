"""The Python SDK.

    from nightshift import Client

    with Client() as nightshift:
        job = nightshift.submit({"kind": "train", "model": {"family": "cnn"}, "dataset": "digits"})
        job.wait()
        print(job.metrics().series()["loss"][-1], job.result)
        job.artifact("curves.png", to="curves.png")

`AsyncClient` (`nightshift.client.async_client`) has the same calls to await. Errors are those of `nightshift.errors` (`InvalidRequest`,
`NotFound`, `Conflict`, …, with `detail` and `errors`), `ApiUnreachable` when nothing answers, and `JobFailed` from `wait`.
Calls that are safe to repeat are repeated when the connection fails; `submit` is, because it carries an idempotency key.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, overload
from urllib.parse import quote

import httpx

from nightshift.client import endpoint, event_stream, model_requests, requests, types, uploads, webhook_requests
from nightshift.client.downloads import (
    ArtifactFacts,
    HashVerifier,
    JobFacts,
    atomic_write,
    named,
    safe_join,
)
from nightshift.client.requests import Call, Spec
from nightshift.client.resources import Dataset
from nightshift.client.retry import ANSWER_TIMEOUT
from nightshift.client.transport import STREAM_SILENCE, Transport
from nightshift.client.types import Event

P = ParamSpec("P")
T = TypeVar("T")


def _sent(call: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """A client's method from a call."""

    @functools.wraps(call)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._transport.run(call(*args, **kwargs))

    return method


def _of_job(call: Callable[Concatenate[str, P], Call[T]]) -> Callable[Concatenate[Job, P], T]:
    """A job's method from a call that takes its id first."""

    @functools.wraps(call)
    def method(self: Job, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._transport.run(call(self.id, *args, **kwargs))

    return method


class Client:
    """One connection to the API. `url` and `key` default to what `endpoint.find` finds; `retries` is per call, `timeout`
    (seconds) per answer."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        data_dir: str | Path | None = None,
        retries: int = 4,
        timeout: float = ANSWER_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.endpoint = endpoint.find(url, key, data_dir)
        self._transport = Transport(self.endpoint, retries=retries, timeout=timeout, transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    # -- jobs -------------------------------------------------------------------------------------

    def submit(self, spec: Spec | None = None, idempotency_key: str | None = None, **fields: Any) -> Job:
        """Submit a job: a spec, or its fields by keyword (`kind="train", model={…}, dataset="digits"`).

        The same key and spec twice give the same job. Raises `InvalidRequest` that names each wrong field.
        """
        return Job(self, self._transport.run(requests.submit(spec, idempotency_key, **fields)))

    def job(self, job_id: str) -> Job:
        """The job with this id, or with the only id that begins so (4 characters or more)."""
        return Job(self, self._transport.run(requests.job(job_id)))

    def jobs(
        self,
        *,
        state: str | None = None,
        kind: str | None = None,
        family: str | None = None,
        tag: str | None = None,
        search: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Newest first, fetched page by page; `limit` is the most that come (None: all). `search` is words and conditions,
        as in `"nightly test_accuracy > 0.95 lr < 0.01"`."""
        pages = requests.jobs(state=state, kind=kind, family=family, tag=tag, search=search, limit=limit)
        while (ask := pages.next()) is not None:
            yield from (Job(self, data) for data in pages.take(self._transport.ask(ask)))

    # -- what is there ----------------------------------------------------------------------------

    workers, families = _sent(requests.workers), _sent(requests.families)
    datasets, dataset = _sent(requests.datasets), _sent(requests.dataset)

    def dataset_sample(self, name: str) -> bytes:
        """A look at a data set: a PNG of images, or the beginning of a text in UTF-8."""
        with self._transport.stream(f"{requests.dataset_path(name)}/sample") as answer:
            return answer.read()

    def add_dataset(self, name: str, path: str | Path, format: str | None = None) -> Dataset:
        """Registers a file or a folder of this machine as a new version of the data set `name`."""
        with uploads.opened(Path(path)) as file:
            return Dataset(self._transport.ask(requests.add_dataset(file, name, format)))

    def append_to_dataset(self, name: str, path: str | Path, format: str | None = None) -> Dataset:
        """Makes a new version: the rows of the newest, then those of a file or a folder of this machine."""
        with uploads.opened(Path(path)) as file:
            return Dataset(self._transport.ask(requests.append_to_dataset(file, name, format)))

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

    def download_model(self, ref: str, to: str | Path) -> Path:
        """The files of a version (`digits`, `digits@3`, `digits@alias`) as one zip, streamed to the file `to`."""
        with self._transport.stream(model_requests.files_path(ref)) as answer, atomic_write(Path(to)) as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)
        return Path(to)

    schedules, schedule = _sent(model_requests.schedules), _sent(model_requests.schedule)
    add_schedule, change_schedule = _sent(model_requests.add_schedule), _sent(model_requests.change_schedule)
    delete_schedule, preview_schedule = _sent(model_requests.delete_schedule), _sent(model_requests.preview_schedule)
    schedule_history = _sent(model_requests.schedule_history)

    def run_schedule(self, schedule: str) -> Job:
        """Its job, now."""
        return Job(self, self._transport.run(model_requests.run_schedule(schedule)))


class Job(JobFacts):
    """A job as it was when last asked; `data` is the API's answer, `refresh()` asks again."""

    def __init__(self, client: Client, data: Any) -> None:
        super().__init__(data)
        self._client, self._transport = client, client._transport

    def refresh(self) -> Job:
        self.data = self._transport.run(requests.job(self.id))
        return self

    # -- requests ---------------------------------------------------------------------------------

    def cancel(self) -> Job:
        return self._control("cancel")

    def finish(self) -> Job:
        """Stop now and keep the best model as the result."""
        return self._control("finish")

    def pause(self) -> Job:
        return self._control("pause")

    def resume(self) -> Job:
        return self._control("resume")

    def edit(self, **changes: Any) -> Job:
        """Another `name`, `notes`, `tags` (those named are set, or with None removed) or, while it waits, `priority`."""
        self.data = self._transport.run(requests.edit(self.id, **changes))
        return self

    def rerun(self, set: Mapping[str, Any] | None = None, idempotency_key: str | None = None) -> Job:
        """A new job with this one's spec, changed by `set`: values by dotted path, such as `{"training.epochs": 10}`. Its
        `name`, `register_as` and `promote` are not copied; `set` may hold them."""
        return Job(self._client, self._transport.run(requests.rerun(self.id, set, idempotency_key)))

    def archive(self) -> Job:
        """Put it out of sight when it has ended; nothing is lost."""
        return self._control("archive")

    def unarchive(self) -> Job:
        return self._control("unarchive")

    def delete(self) -> None:
        """For good, with its files. Raises `Conflict` while it has not ended or something needs it."""
        self._transport.run(requests.delete(self.id))

    def _control(self, verb: str) -> Job:
        self.data = self._transport.run(requests.control(self.id, verb))
        return self

    # -- following --------------------------------------------------------------------------------

    def events(
        self,
        after: int | None = None,
        *,
        patience: float = 300.0,
        on_drop: event_stream.OnDrop | None = None,
        only: str | None = None,
    ) -> Iterator[Event]:
        """What happens to the job, from the beginning or after an event's id, until it is final; `only` one type of it.

        A dropped connection is taken up where it broke; nothing comes twice and nothing is missed. Raises
        `Unavailable` when the API cannot be reached for `patience` seconds.
        """
        return event_stream.follow(
            lambda after: self._event_stream(after, only),
            self._is_final,
            after=after,
            patience=patience,
            on_drop=on_drop,
        )

    @contextmanager
    def _event_stream(
        self, after: int | None, only: str | None, silence: float = STREAM_SILENCE
    ) -> Iterator[Iterable[bytes]]:
        path, headers, params = f"jobs/{self.id}/events", event_stream.headers(after), {"type": only} if only else None
        with self._transport.stream(path, headers=headers, params=params, silence=silence) as response:
            yield response.iter_bytes()

    def _is_final(self) -> bool:
        return self.refresh().is_final

    def wait(self, timeout: float | None = None, *, check: bool = True, patience: float = 300.0) -> Job:
        """Returns when the job is final. Raises `JobFailed` when it failed and `JobCancelled` when it was cancelled
        (`check=False`: neither; look at `state`), `TimeoutError` after `timeout` seconds, and `Unavailable` when the API
        cannot be reached for `patience` seconds. It listens rather than asks, so it returns at once."""
        deadline = event_stream.Deadline(timeout, f"job {self.id} is not final after {timeout} seconds")

        @contextmanager
        def connect(after: int | None) -> Iterator[Iterable[bytes]]:
            deadline.check()
            silence = min(STREAM_SILENCE, deadline.left)
            with self._event_stream(after, "state", silence) as chunks:
                yield deadline.cut(chunks, silence)

        def sleep(seconds: float) -> None:
            time.sleep(min(seconds, deadline.left))

        if not self._is_final():
            for _ in event_stream.follow(connect, self._is_final, patience=patience, sleep=sleep):
                pass
            self.refresh()
        if check:
            self.raise_unless_succeeded()
        return self

    # -- what it leaves ---------------------------------------------------------------------------

    why, metrics, logs = _of_job(requests.why), _of_job(requests.metrics), _of_job(requests.logs)
    attempts, checkpoints = _of_job(requests.attempts), _of_job(requests.checkpoints)
    system = _of_job(requests.system)

    def artifacts(self) -> list[Artifact]:
        return [Artifact(self, data) for data in self._transport.run(requests.artifacts(self.id))]

    @overload
    def artifact(self, path: str) -> bytes: ...

    @overload
    def artifact(self, path: str, to: str | Path) -> Path: ...

    def artifact(self, path: str, to: str | Path | None = None) -> bytes | Path:
        """One artifact, e.g. `"evaluation.json"`: its content, or with `to` the file it was streamed to."""
        artifact = named(self.id, self.artifacts(), path)
        return artifact.read() if to is None else artifact.save(to)

    def download(self, folder: str | Path, paths: Iterable[str] | None = None) -> list[Path]:
        """Writes artifacts (all, or those named) below `folder`; the files written."""
        there = self.artifacts()
        chosen = there if paths is None else [named(self.id, there, path) for path in paths]
        return [artifact.download(folder) for artifact in chosen]


class Artifact(ArtifactFacts):
    def __init__(self, job: Job, data: types.ArtifactData) -> None:
        super().__init__(data)
        self._job = job

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def save(self, file: str | Path) -> Path:
        """Streams it to `file`; a partial or damaged one is never left there."""
        target = Path(file)
        with atomic_write(target) as partial:
            for chunk in self.chunks():
                partial.write(chunk)
        return target

    def download(self, folder: str | Path) -> Path:
        """Writes the file below `folder` under its own path."""
        return self.save(safe_join(folder, self.path))

    def chunks(self) -> Iterator[bytes]:
        """Its content piece by piece; raises `DamagedDownload` at the end if it was not the whole."""
        checked = HashVerifier(self.data)
        try:
            with self._job._transport.stream(f"jobs/{self._job.id}/artifacts/{quote(self.path)}") as response:
                for chunk in response.iter_bytes():
                    yield checked.feed(chunk)
        except event_stream.StreamDropped as error:
            raise checked.broken(error) from error
        checked.finish()
