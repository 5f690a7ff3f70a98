"""The wheel is whole: built from the tree and installed into a new environment, it runs outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.plugins import write_package

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
#: Top-level packages of the wheel, as pyproject.toml names them.
PACKAGES = [pattern.removesuffix("*") for pattern in SETUP["packages"]["find"]["include"]]
#: Kinds of files beside Python that the service does not run without.
DATA = ["templates/*.html", "static/*.css", "static/js/*.js", "migrations/*.mako", "datasets/digits.csv.gz"]


def run(*command: str | Path, cwd: Path, packages: Path | None = None) -> str:
    """Return the stdout of a command that does not see the checkout; `packages`: a folder of installed ones."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(packages)} if packages else {}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because the build leaves files in the tree. Nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation")
    run(*pip, "-w", folder / "dist", folder, cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a new environment that has the wheel, and what it depends on from the environment of the tests."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def source_files() -> Iterator[str]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                yield path.relative_to(ROOT).as_posix()


def test_it_has_every_file_of_the_packages_and_no_others(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == set(source_files())


@pytest.mark.parametrize("pattern", DATA)
def test_it_has_the_data_of_the_service(wheel: Path, pattern: str) -> None:
    assert [name for name in zipfile.ZipFile(wheel).namelist() if Path(name).match(pattern)]


def test_its_packages_are_imported_from_the_installation(installed: Path, tmp_path: Path) -> None:
    code = f"import {', '.join(PACKAGES)}; print(*(p.__file__ for p in ({', '.join(PACKAGES)},)), sep='\\n')"
    places = run(installed / "python", "-c", code, cwd=tmp_path).splitlines()
    assert len(places) == len(PACKAGES)
    assert all(Path(place).is_relative_to(installed.parent) for place in places)


def test_its_command_runs(installed: Path, tmp_path: Path) -> None:
    assert "Usage: nightshift" in run(installed / "nightshift", "--help", cwd=tmp_path)


def test_it_makes_a_database(installed: Path, tmp_path: Path) -> None:
    assert "the schema is at" in run(installed / "nightshift", "migrate", cwd=tmp_path)
    assert (tmp_path / "nightshift-data" / "nightshift.db").exists()


def test_its_conformance_kit_checks_a_program_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    packages, empty = write_package(tmp_path / "packages"), tmp_path / "empty"
    empty.mkdir()
    kit = (installed / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "nightshift.testing")
    said = run(*kit, "--program=walk", "-k", "params or repeats", cwd=empty, packages=packages)
    assert "2 passed" in said
    places = run(installed / "python", "-c", "import nightshift.testing as t; print(t.__file__)", cwd=empty)
    assert Path(places.strip()).is_relative_to(installed.parent)
