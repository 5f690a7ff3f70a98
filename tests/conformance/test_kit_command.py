"""`nightshift programs check`: the report in a file and in the database, and what is said on the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import Result

from nightshift.cli import registry
from shared.db import migrate
from shared.db.engine import make_engine, read
from shared.fleet import conformance
from tests.support.cli import invoke
from tests.support.paths import ROOT
from tests.support.plugins import TRAINING, installed, write_package

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a package with a program, which processes that are started find, too."""
    folder = tmp_path / "packages"
    installed(folder, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    monkeypatch.chdir(tmp_path)
    return folder


def check(*options: str, name: str = "walk", code: int = 0) -> Result:
    found = invoke(*options, "programs", "check", name)
    assert found.exit_code == code, found.output
    return found


def green(url: str) -> frozenset[tuple[str, str]]:
    engine = make_engine(url)
    with read(engine) as conn:
        found = conformance.green(conn)
    engine.dispose()
    return found


@pytest.mark.slow
def test_a_green_report_makes_a_program_exact(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(packages)
    url = f"sqlite:///{tmp_path / 'nightshift.db'}"
    migrate.upgrade(url)
    monkeypatch.setenv("NIGHTSHIFT_DATABASE_URL", url)
    said = check().stdout
    report = json.loads((tmp_path / "walk-conformance.json").read_text())
    assert f"{len(report['checks'])} checks passed, 0 did not" in said
    assert (report["program"], report["package"], report["passed"]) == ("walk", "nightshift-walk 1.0", True)
    assert {"nightshift", "numpy"} <= report["versions"].keys() | {"nightshift"}
    assert all(one["shows"].endswith(".") and one["reason"] is None for one in report["checks"])
    assert green(url) == {("program walk", report["record_sha256"])}


def test_what_does_not_pass_is_said_and_ends_with_one(packages: Path, tmp_path: Path) -> None:
    write_package(packages, training=TRAINING.replace("run.progress(", "print(").replace("run.log(", "print("))
    found = check("--data-dir", str(tmp_path / "none"), code=1)
    assert "it reports 0 steps; a run that is silent counts as stalled" in found.stdout
    assert "There is no database here" in found.stderr
    assert not json.loads((tmp_path / "walk-conformance.json").read_text())["passed"]


def test_what_is_not_installed_is_named(packages: Path) -> None:
    write_package(packages)
    assert "no installed package has a program of the name stroll" in check(name="stroll", code=1).stderr


def test_without_pytest_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.NEEDS, "testing", ("pytest_of_another_name",))
    assert "pip install 'nightshift[testing]'" in check(code=1).stderr


def test_the_options_are_there_for_the_kit_only(packages: Path, tmp_path: Path) -> None:
    """Another project may have options of the same names, where Nightshift is installed."""
    (tmp_path / "conftest.py").write_text("def pytest_addoption(parser): parser.addoption('--family')\n")
    (tmp_path / "test_own.py").write_text("def test_own(request): assert request.config.getoption('family') == 'own'\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--family", "own", "test_own.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
