"""The kit's checks of declarations, imports, kept models and frameworks, for the families of Nightshift."""

from __future__ import annotations

import pytest

from nightshift.families.family import Family
from nightshift.plugins import BUILTIN, offered_families
from nightshift.testing.cases import Case
from nightshift.testing.test_family import (
    test_importing_its_parts_starts_nothing as test_importing_its_parts_starts_nothing,
)
from nightshift.testing.test_family import (
    test_its_declaration_imports_no_framework as test_its_declaration_imports_no_framework,
)
from nightshift.testing.test_family import test_its_settings_go_round as test_its_settings_go_round
from nightshift.testing.test_family import test_its_trial_is_a_job as test_its_trial_is_a_job
from nightshift.testing.test_frameworks import test_both_frameworks_agree as test_both_frameworks_agree
from nightshift.testing.test_summary import test_its_layers_need_no_framework as test_its_layers_need_no_framework
from nightshift.testing.test_summary import test_its_layers_survive_json as test_its_layers_survive_json
from shared.specs.families import FAMILIES
from tests.support.training import CASES

NAMES = offered_families(BUILTIN)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    found = CASES[request.param]
    pytest.importorskip(found.framework)
    return found


@pytest.fixture(params=NAMES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(params=NAMES)
def both(request: pytest.FixtureRequest) -> list[Case]:
    return [case for case in CASES.values() if case.family == request.param]


def test_every_family_has_a_case_in_both_frameworks(both: list[Case]) -> None:
    assert len(both) == 2
