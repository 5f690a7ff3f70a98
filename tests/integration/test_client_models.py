"""The registry by command line and SDK against the API: a job registered afterwards, described, downloaded."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import Result

from nightshift.client.async_client import AsyncClient
from nightshift.client.client import Client
from nightshift.errors import Conflict, InvalidRequest
from tests.integration.test_models_page import untold
from tests.support.cli import invoke as invoke_cli
from tests.support.factories import OWNER
from tests.support.served import ServedApi, served_api

Run = Callable[..., Result]


@pytest.fixture
def served(sqlite_engine: Engine, tmp_path: Path) -> Iterator[ServedApi]:
    with served_api(sqlite_engine, tmp_path) as served:
        yield served


@pytest.fixture
def run(served: ServedApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    for name, value in {"API_URL": served.url, "API_KEY": served.key}.items():
        monkeypatch.setenv(f"NIGHTSHIFT_{name}", value)

    def invoke(*args: str, code: int = 0) -> Result:
        result = invoke_cli(*args)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return invoke


def test_a_job_is_registered_described_and_downloaded_from_a_terminal(served: ServedApi, run: Run) -> None:
    job_id = untold(served.engine, OWNER, served.settings.data_dir)
    assert run("models", "register", "mine", job_id[:10], "--tag", "team=vision").stdout == "mine@1\n"
    assert "already" in run("models", "register", "mine", job_id, code=1).stderr
    run("models", "describe", "mine", "reads numbers")
    run("models", "describe", "mine@1", "the first", "--tag", "checked=yes", "--tag", "team")
    run("models", "describe", "mine", "--tag", "checked=yes", code=1)
    assert "reads numbers" in run("models", "show", "mine").stdout
    assert "describe" in run("models", "history", "mine").stdout
    file = Path(run("models", "download", "mine@1").stdout.strip())
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["mine-1/config.json", "mine-1/model.safetensors"]
    with Client(served.url, served.key) as client:
        (version,) = client.model("mine")["versions"]
    assert (version["description"], version["tags"]) == ("the first", {"checked": "yes"})


def test_both_clients_do_the_same(served: ServedApi, tmp_path: Path) -> None:
    job_id = untold(served.engine, OWNER, served.settings.data_dir)
    with Client(served.url, served.key) as client:
        assert client.register_model("mine", job_id, description="by hand")["version"] == 1
        with pytest.raises(Conflict):
            client.register_model("mine", job_id)
        with pytest.raises(InvalidRequest, match="description"):
            client.change_version("mine", 1, description="a bell: \x07")
        assert zipfile.is_zipfile(client.download_model("mine", tmp_path / "a.zip"))

    async def describe() -> Path:
        async with AsyncClient(served.url, served.key) as client:
            assert (await client.describe_model("mine", "reads numbers"))["description"] == "reads numbers"
            assert (await client.change_version("mine", 1, tags={"a": "b"}))["tags"] == {"a": "b"}
            return await client.download_model("mine@champion", tmp_path / "b.zip")

    assert zipfile.is_zipfile(asyncio.run(describe()))
