"""The asyncio client: the same calls, errors and guarantees as the blocking one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import nightshift as package
from nightshift import Artifact, Client, DamagedDownload, Job, JobFailed
from nightshift.client import transport
from nightshift.client.async_client import AsyncArtifact, AsyncClient, AsyncJob
from nightshift.errors import Conflict, NotFound
from tests.support.fake_api import ID, OTHER_ID, FakeApi, job_data, problem

Story = Callable[[AsyncClient], Awaitable[Any]]
Play = Callable[[Story], Any]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    async def at_once(seconds: float) -> None:
        pass

    monkeypatch.setattr(transport.asyncio, "sleep", at_once)
    return FakeApi()


@pytest.fixture
def play(fake: FakeApi) -> Play:
    def run(story: Story) -> Any:
        async def whole() -> Any:
            async with AsyncClient("http://api.test", "key", transport=fake.transport) as client:
                return await story(client)

        return asyncio.run(whole())

    return run


def names(kind: type) -> dict[str, list[str]]:
    """Public methods with their parameters."""
    methods = inspect.getmembers(kind, callable)
    return {name: list(inspect.signature(method).parameters) for name, method in methods if not name.startswith("_")}


@pytest.mark.parametrize(("sync", "awaited"), [(Client, AsyncClient), (Job, AsyncJob), (Artifact, AsyncArtifact)])
def test_both_clients_have_the_same_calls(sync: type, awaited: type) -> None:
    assert names(sync) == names(awaited)


def test_calls_keep_their_documentation() -> None:
    assert "aliases" in (AsyncClient.model_history.__doc__ or "")
    assert list(inspect.signature(Client.promote).parameters)[-3:] == ["version", "alias", "reason"]


def test_submit_follow_and_use(fake: FakeApi, play: Play, tmp_path: Path) -> None:
    fake.events[ID] = [
        (1, "state", {"state": "running"}),
        (2, "metric", {"name": "loss"}),
        (3, "state", {"state": "succeeded"}),
    ]
    fake.files[ID] = {"curves.png": b"png"}

    async def story(client: AsyncClient) -> None:
        job = await client.submit({"kind": "train"})
        assert [event.id async for event in job.events()] == [1, 2, 3]
        fake.jobs[ID]["state"] = "succeeded"
        assert (await job.wait()).state == "succeeded"
        assert await job.artifact("curves.png") == b"png"
        saved = await job.artifact("curves.png", to=tmp_path / "c.png")
        assert saved.read_bytes() == b"png"
        with pytest.raises(NotFound, match=r"curves\.png"):
            await job.artifact("curve.png")

    play(story)


def test_errors_are_the_same(fake: FakeApi, play: Play) -> None:
    fake.jobs[ID] = job_data(state="failed", error={"type": "bad_data", "message": "ragged", "retryable": False})
    with pytest.raises(JobFailed, match="ragged"):
        play(_wait)
    fake.failures = [httpx.Response(200, json=job_data()), problem(409, "The job is final.")]
    with pytest.raises(Conflict, match="final"):
        play(_cancel)


async def _wait(client: AsyncClient) -> None:
    await (await client.job(ID)).wait()


async def _cancel(client: AsyncClient) -> None:
    await (await client.job(ID)).cancel()


def test_failing_requests_are_repeated_with_the_same_key(fake: FakeApi, play: Play) -> None:
    fake.failures = [httpx.ReadTimeout("slow"), httpx.ConnectError("refused"), problem(503, "starting")]

    async def story(client: AsyncClient) -> str:
        return (await client.submit({"kind": "train"})).id

    assert play(story) == ID
    assert len(fake.requests) == 4
    assert len({request.headers["idempotency-key"] for request in fake.requests}) == 1


def test_pages_are_fetched_as_they_are_needed(fake: FakeApi, play: Play) -> None:
    fake.jobs = {f"{n:016x}": job_data(f"{n:016x}") for n in range(5)}

    async def story(client: AsyncClient) -> list[int]:
        return [int(job.id, 16) async for job in client.jobs(limit=3)]

    assert play(story) == [0, 1, 2]
    assert len(fake.requests) == 2


def test_waiting_for_several_at_once_has_a_limit(fake: FakeApi, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.jobs = {ID: job_data(state="succeeded"), OTHER_ID: job_data(OTHER_ID, state="running")}
    monkeypatch.undo()

    async def story(client: AsyncClient) -> list[Any]:
        waits = [(await client.job(job_id)).wait(timeout=seconds) for job_id, seconds in ((ID, 600), (OTHER_ID, 0.2))]
        return await asyncio.gather(*waits, return_exceptions=True)

    done, late = play(story)
    assert done.id == ID
    assert isinstance(late, TimeoutError)


def test_a_damaged_download_leaves_nothing(fake: FakeApi, play: Play, tmp_path: Path) -> None:
    fake.jobs[ID], fake.files[ID] = job_data(), {"curves.png": b"png"}

    async def story(client: AsyncClient) -> None:
        artifact = (await (await client.job(ID)).artifacts())[0]
        fake.files[ID]["curves.png"] = b"pnq"
        await artifact.download(tmp_path)

    with pytest.raises(DamagedDownload, match="SHA-256"):
        play(story)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_uploaded(fake: FakeApi, play: Play, tmp_path: Path) -> None:
    (tmp_path / "poems.txt").write_bytes(b"two roads")

    async def story(client: AsyncClient) -> Any:
        return await client.add_dataset("poems", tmp_path / "poems.txt", kind="table")

    assert play(story) == {"name": "mine", "version": 2}
    assert b"two roads" in fake.requests[0].content
    assert b'name="kind"\r\n\r\ntable' in fake.requests[0].content


def test_the_package_exports_what_it_names() -> None:
    assert all(getattr(package, name) for name in package.__all__)
    assert package.Client is Client
    with pytest.raises(AttributeError, match="Clint"):
        _ = package.Clint
