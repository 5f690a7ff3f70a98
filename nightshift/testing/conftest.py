"""Chooses the checks by the options, and writes the report."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nightshift.errors import ConfigurationError
from nightshift.families.family import Family
from nightshift.plugins import BUILTIN, installed_programs
from nightshift.programs import Program
from nightshift.testing import devices
from nightshift.testing.cases import Case
from nightshift.testing.fixtures import *  # noqa: F403 - fixtures are found by their names here
from nightshift.testing.program_cases import ProgramCase
from nightshift.testing.report import Recorder
from shared.specs.families import FAMILIES, SETTING
from worker.hardware.frameworks import served

_OF_PROGRAMS = "test_program"


def pytest_configure(config: pytest.Config) -> None:
    """Allow the family that is named, and record what the checks say."""
    name, program = config.getoption("family"), config.getoption("program")
    if bool(name) == bool(program):
        raise pytest.UsageError("name what to check: --family NAME or --program NAME")
    try:
        devices.choose(config.getoption("device"))
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from None
    if name:
        os.environ[SETTING] = f"{BUILTIN},{name}"
        FAMILIES.forget()
        _family(name)
    else:
        _program(program)
    if path := config.getoption("conformance_report"):
        config.pluginmanager.register(Recorder(Path(path)), "nightshift-recorder")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the checks of programs for a family, and the others for a program."""
    if not collection_path.name.startswith("test_"):
        return None
    of_programs = collection_path.name.startswith(_OF_PROGRAMS)
    return True if of_programs != bool(config.getoption("program")) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each check the cases of the family, or the program."""
    option = metafunc.config.getoption
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", _cases(option("family"), option("framework")), ids=str, scope="session")
    if "program" in metafunc.fixturenames:
        metafunc.parametrize("program", [ProgramCase.of(_program(option("program")))], ids=str, scope="session")


@pytest.fixture(scope="session")
def family(request: pytest.FixtureRequest) -> Family:
    """Return the family that is checked."""
    return _family(request.config.getoption("family"))


@pytest.fixture(scope="session")
def both(request: pytest.FixtureRequest) -> list[Case]:
    """Return the cases of all frameworks."""
    return _cases(request.config.getoption("family"), request.config.getoption("framework"))


def _family(name: str) -> Family:
    if name not in FAMILIES:
        found = FAMILIES.installed.get(name)
        why = found.error if found else "no installed package has a family of this name"
        raise pytest.UsageError(f"{name}: {why}")
    return FAMILIES[name]


def _program(name: str) -> Program:
    found = installed_programs([name]).get(name)
    if found is None or found.declared is None:
        why = found.error if found else "no installed package has a program of this name"
        raise pytest.UsageError(f"{name}: {why}")
    return found.declared


def _cases(name: str, framework: str | None) -> list[Case]:
    wanted = [one for one in _family(name).frameworks if framework in (None, one)]
    found = [one for one in served() if one in wanted]
    if not found:
        raise pytest.UsageError(f"no framework that {name} has is installed: {', '.join(wanted) or 'none'}")
    return [Case.of(name, one) for one in found]
