"""Processes of the service: what they write is for their own user."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightshift.errors import ConfigurationError
from shared.entrypoint import restrict_umask
from shared.settings import load_settings


@pytest.fixture(autouse=True)
def same_umask_afterwards() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("umask", "files", "folders"), [("077", 0o600, 0o700), ("027", 0o640, 0o750)])
def test_files_and_the_data_folder_are_closed(tmp_path: Path, umask: str, files: int, folders: int) -> None:
    there = tmp_path / "data"
    there.mkdir()
    assert mode(there) == 0o755
    restrict_umask(umask, there)
    (there / "storage").mkdir()
    (there / "nightshift.db").touch()
    assert (mode(there), mode(there / "storage"), mode(there / "nightshift.db")) == (folders, folders, files)


def test_a_folder_of_many_users_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    restrict_umask("077", tmp_path)
    assert mode(tmp_path) == 0o1777


def test_a_folder_that_is_not_there_yet_is_no_error(tmp_path: Path) -> None:
    restrict_umask("077", tmp_path / "later")
    (tmp_path / "later").mkdir()
    assert mode(tmp_path / "later") == 0o700


@pytest.mark.parametrize("wrong", ["", "8", "0888", "rwx"])
def test_a_umask_is_three_octal_digits(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="NIGHTSHIFT_UMASK"):
        load_settings(umask=wrong)
