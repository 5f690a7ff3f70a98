"""Installed programs: which are offered, and why others are not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from nightshift.plugins import installed_programs, missing, names_of
from nightshift.programs import Program
from tests.support.plugins import installed, write_package


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    installed(tmp_path, monkeypatch)
    return tmp_path


def test_an_allowed_program_is_found_with_its_package(folder: Path) -> None:
    write_package(folder)
    found = installed_programs(["walk"])["walk"]
    assert found.error is None
    assert (found.package, found.program and found.program.promise) == ("nightshift-walk 1.0", "exact")
    assert len(found.record_sha256) == 64


def test_the_hash_follows_the_files(folder: Path) -> None:
    before = installed_programs_of(write_package(folder))
    assert installed_programs_of(write_package(folder, training="def train(run): ...")) != before


def installed_programs_of(_: Path) -> str:
    return installed_programs(["walk"])["walk"].record_sha256


def test_one_that_is_not_allowed_is_not_even_imported(folder: Path) -> None:
    write_package(folder)
    assert installed_programs(["other"]) == {}
    assert "walk_program" not in sys.modules


def test_an_allowed_name_without_a_package_is_missing() -> None:
    assert list(missing(["walk", "gone"], {})) == ["walk", "gone"]


@pytest.mark.parametrize(
    ("package", "error"),
    [
        ({"declaration": "import not_installed_anywhere"}, "No module named 'not_installed_anywhere'"),
        ({"declaration": "raise SystemExit(3)"}, "SystemExit: 3"),
        ({"declaration": "PROGRAM = 3"}, "leads to int, not to a nightshift.programs.Program"),
        ({"entry": "walk = walk_program:NOTHING"}, "AttributeError"),
        ({"more": ', requires=">=99"'}, "requires nightshift >=99; this is"),
        ({"more": ', requires="newest"'}, "not a version specifier: 'newest'"),
        ({"more": ', framework="jax"'}, "must be one of torch, tensorflow, or None"),
    ],
)
def test_a_broken_one_is_listed_with_its_error_and_stops_nothing(
    folder: Path, package: dict[str, str], error: str
) -> None:
    write_package(folder, **package)  # type: ignore[arg-type]
    found = installed_programs(["walk"])["walk"]
    assert found.program is None
    assert error in str(found.error)


def test_a_program_of_another_name_than_its_entry_point_is_refused(folder: Path) -> None:
    write_package(folder, entry="stroll = walk_program:PROGRAM")
    assert "is named 'stroll' and its Program 'walk'" in str(installed_programs(["stroll"])["stroll"].error)


def test_two_packages_with_a_program_of_one_name_are_both_refused(folder: Path) -> None:
    write_package(folder)
    write_package(folder, name="nightshift-walk-too")
    error = str(installed_programs(["walk"])["walk"].error)
    assert "nightshift-walk and nightshift-walk-too" in error


def test_names_of_a_setting() -> None:
    assert names_of(" walk, gbm,,walk ") == ("walk", "gbm")
    assert names_of("") == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "Walk"}, "the name of a program"),
        ({"name": "a" * 17}, "the name of a program"),
        ({"train": "module"}, "package.module:function"),
        ({"train": "mod ule:train"}, "package.module:function"),
        ({"promise": "always"}, "promise of the program"),
        ({"dataset_kinds": ("csv",)}, "must be a list of image, text, files, table; it is .'csv',."),
        ({"dataset_kinds": "table"}, "must be a list of image, text, files, table; it is 'table'"),
    ],
)
def test_a_declaration_names_what_is_wrong(wrong: dict[str, Any], message: str) -> None:
    fields = {"name": "walk", "train": "walk.training:train", "params": object} | wrong
    with pytest.raises(ValueError, match=message):
        Program(**fields)  # type: ignore[arg-type]
