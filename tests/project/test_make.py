"""The Makefile and .ci/run: help explains every target, an old Python is refused with the way out, CI runs the README's
test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

CI = (ROOT / ".ci" / "run").read_text()


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """As from a shell, also where these tests run below `make test`, which hands its own flags on."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_help_is_what_make_says_by_itself_and_it_names_every_target() -> None:
    phony = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)[0].split()
    told = make().stdout
    assert re.findall(r"^  make ([a-z-]+) +\S", told, re.M) == phony
    assert make("help").stdout == told


def test_a_machine_without_a_fit_python_is_told_what_to_do(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    refused = make("PYTHON=", "demo", folder=tmp_path)
    assert refused.returncode != 0
    assert "Python 3.11 or newer" in refused.stderr
    assert not (tmp_path / ".venv").exists()


def test_an_installation_is_not_done_twice(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    assert "pip" in make("-n", "demo", folder=tmp_path).stdout
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    (tmp_path / ".venv" / ".embedded").touch()
    assert make("-n", "demo", folder=tmp_path).stdout == ".venv/bin/nightshift demo\n"
    later = (tmp_path / ".venv" / ".embedded").stat().st_mtime + 1
    os.utime(tmp_path / "constraints.txt", (later, later))
    assert "pip" in make("-n", "demo", folder=tmp_path).stdout


def test_ci_stops_at_the_first_error_and_runs_lint_and_all_tests() -> None:
    assert "\nset -euo pipefail\n" in CI
    assert CI.rstrip().endswith("make lint\nmake test\nmake test-gpu")
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=False).returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        "Makefile",
        ".ci/run",
        "Dockerfile",
        "docker-compose.yml",
        "pyproject.toml",
        "constraints.txt",
        "package.json",
        ".npmrc",
    ],
)
def test_no_host_of_a_package_registry_is_named(name: str) -> None:
    assert not re.search(r"https?://(?!127\.0\.0\.1|\{)|index-url|pypi\.|ghcr\.|quay\.", (ROOT / name).read_text())


def test_npm_installs_from_whatever_registry_it_is_set_to() -> None:
    lock = (ROOT / "package-lock.json").read_text()
    assert '"integrity": "sha512-' in lock
    assert '"resolved"' not in lock


def test_lint_says_plainly_that_npm_needs_the_network(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "package.json", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("bin/python", ".embedded", ".test"):
        (tmp_path / ".venv" / name).touch()
    for name, text in {"node": "exit 0", "npm": "exit 1"}.items():
        (tmp_path / ".venv" / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / ".venv" / "bin" / name).chmod(0o755)
    refused = make("lint", folder=tmp_path)
    assert refused.returncode != 0
    assert "it needs the network once" in refused.stderr
