"""Where the client looks for the API and the key, and in which order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dotenv import dotenv_values

from nightshift.client import endpoint
from shared.settings import Settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("URL", "KEY"):
        monkeypatch.delenv(f"NIGHTSHIFT_API_{name}", raising=False)
    monkeypatch.delenv("NIGHTSHIFT_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


def noted(folder: Path, url: str = "http://127.0.0.1:4711", key: str = "from-folder") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "endpoints.json").write_text(json.dumps({"api": url, "flower": "http://127.0.0.1:5", "pid": 1}))
    (folder / "api_key").write_text(f"{key}\n")
    return folder


def test_defaults_are_those_of_the_settings() -> None:
    assert Settings.model_fields["api_url"].default == endpoint.DEFAULT_URL
    assert Settings.model_fields["data_dir"].default == Path(endpoint.DEFAULT_DATA_DIR)


def test_nothing_set_says_where_it_looked(tmp_path: Path) -> None:
    found = endpoint.find()
    assert (found.url, found.key) == (endpoint.DEFAULT_URL, None)
    assert "NIGHTSHIFT_API_KEY is not set" in found.key_from
    assert str(tmp_path / "nightshift-data" / "api_key") in found.key_from


def test_what_the_launcher_noted_is_found(tmp_path: Path) -> None:
    noted(tmp_path / "nightshift-data")
    assert (endpoint.find().url, endpoint.find().key) == ("http://127.0.0.1:4711", "from-folder")


def test_the_environment_goes_before_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted(tmp_path / "nightshift-data")
    monkeypatch.setenv("NIGHTSHIFT_API_URL", "https://far.example/")
    monkeypatch.setenv("NIGHTSHIFT_API_KEY", "from-env")
    assert (endpoint.find().url, endpoint.find().key) == ("https://far.example", "from-env")


def test_a_folder_that_is_named_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_API_URL", "https://far.example")
    monkeypatch.setenv("NIGHTSHIFT_API_KEY", "from-env")
    found = endpoint.find(data_dir=noted(tmp_path / "other"))
    assert (found.url, found.key) == ("http://127.0.0.1:4711", "from-folder")


def test_arguments_go_before_everything(tmp_path: Path) -> None:
    noted(tmp_path / "nightshift-data")
    found = endpoint.find("http://given", "given-key")
    assert (found.url, found.key) == ("http://given", "given-key")


def test_the_dotenv_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("NIGHTSHIFT_API_URL=http://dotenv\nNIGHTSHIFT_API_KEY=secret\n")
    assert (endpoint.find().url, endpoint.find().key) == ("http://dotenv", "secret")


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", "null"])
def test_a_damaged_note_is_no_note(tmp_path: Path, note: str) -> None:
    (noted(tmp_path / "nightshift-data") / "endpoints.json").write_text(note)
    assert endpoint.find().url == endpoint.DEFAULT_URL


DOTENV = """
# comment
NIGHTSHIFT_API_KEY=plain
export NIGHTSHIFT_API_URL="http://quoted"  # with a comment
NIGHTSHIFT_DATA_DIR='a folder'
NOT_AN_ASSIGNMENT
OPEN="quotation
EMPTY=
"""


def test_the_dotenv_file_is_read_as_the_server_reads_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(DOTENV)
    names = ("NIGHTSHIFT_API_KEY", "NIGHTSHIFT_API_URL", "NIGHTSHIFT_DATA_DIR", "EMPTY")
    theirs = dotenv_values(tmp_path / ".env")
    assert {name: endpoint._dotenv()[name] for name in names} == {name: theirs[name] for name in names}
    assert "NOT_AN_ASSIGNMENT" not in endpoint._dotenv()


@pytest.mark.parametrize("content", [b"\xff\xfe", b""])
def test_a_dotenv_file_that_cannot_be_read_sets_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    assert endpoint.find().url == endpoint.DEFAULT_URL
