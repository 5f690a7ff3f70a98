"""The fixtures of the kit, and the cases that are tried on the device."""

from __future__ import annotations

import pytest

from nightshift.testing import devices
from nightshift.testing.cases import Case
from nightshift.testing.fixtures import *  # noqa: F403 - fixtures are found by their names here
from nightshift.testing.reasons import require
from tests.support.training import CASES

#: On a CPU the tests of this folder only show that they run: one case of each framework is enough.
_ON_A_CPU = ("mlp-torch", "mlp-tensorflow")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test the cases of all families on a GPU; `torch_case`: those of torch."""
    for fixture in {"case", "torch_case"} & {*metafunc.fixturenames}:
        names = CASES if devices.kind() == "gpu" else _ON_A_CPU
        wanted = [CASES[name] for name in names if fixture == "case" or CASES[name].framework == "torch"]
        metafunc.parametrize(fixture, wanted, ids=str, scope="module")


@pytest.fixture(autouse=True)
def _works(request: pytest.FixtureRequest) -> None:
    """Leave out the cases of a framework that does not work on the device."""
    for fixture in {"case", "torch_case"} & {*request.fixturenames}:
        found: Case = request.getfixturevalue(fixture)
        pytest.importorskip(found.framework)
        require(found.framework)
