"""The registry by command line and SDK against the API: a job registered afterwards, described, downloaded."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, update
from typer.testing import Result

from nightshift.client.async_client import AsyncClient
from nightshift.client.client import Client
from nightshift.errors import Conflict, InvalidRequest, NotFound
from shared.db.engine import write
from shared.db.schema import model_versions
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


def exportable(served: ServedApi) -> bytes:
    """Register a job's model that has an ONNX file as `mine`, and return the file."""
    job_id = untold(served.engine, OWNER, served.settings.data_dir, "model.onnx")
    with Client(served.url, served.key) as client:
        client.register_model("mine", job_id)
    return b"model.onnx" * 1000


def test_a_version_is_exported_from_a_terminal(served: ServedApi, run: Run, tmp_path: Path) -> None:
    content = exportable(served)
    assert Path(run("models", "export", "mine@1", "--format", "onnx").stdout.strip()).read_bytes() == content
    assert run("models", "export", "mine", "--to", "out/it.onnx").stdout == "out/it.onnx\n"
    assert (tmp_path / "out" / "it.onnx").read_bytes() == content
    refused = run("models", "export", "mine", "--format", "pickle", code=2)
    assert "onnx" in refused.stderr


def test_both_clients_export(served: ServedApi, tmp_path: Path) -> None:
    content = exportable(served)
    with Client(served.url, served.key) as client:
        assert client.export_model("mine@champion", tmp_path / "a.onnx").read_bytes() == content
        with pytest.raises(InvalidRequest, match="format"):
            client.export_model("mine", tmp_path / "b", "pickle")

    async def export() -> Path:
        async with AsyncClient(served.url, served.key) as client:
            return await client.export_model("mine@1", tmp_path / "c.onnx")

    assert asyncio.run(export()).read_bytes() == content
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(("family", "why"), [("cnn", "earlier version"), ("gan", "earlier version")])
def test_a_version_without_an_onnx_file_says_why(served: ServedApi, family: str, why: str, tmp_path: Path) -> None:
    job_id = untold(served.engine, OWNER, served.settings.data_dir)
    with Client(served.url, served.key) as client:
        client.register_model("mine", job_id)
        with write(served.engine) as conn:
            conn.execute(update(model_versions).values(family=family))
        with pytest.raises(NotFound, match=f"mine@1 has no ONNX file: .*{why}"):
            client.export_model("mine", tmp_path / "a.onnx")
        with pytest.raises(NotFound):
            client.export_model("mine@7", tmp_path / "a.onnx")


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
