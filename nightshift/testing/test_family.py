"""What a family declares, and what importing its parts does."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from nightshift.families.family import GROUP, Family
from nightshift.testing.cases import Case
from nightshift.testing.fresh import frameworks_of_declaration, harm_of
from nightshift.testing.reasons import fail
from shared.specs.families import FAMILIES


def test_its_declaration_imports_no_framework(family: Family) -> None:
    """The module of the `Family` imports no framework: the API imports it for the settings."""
    found = frameworks_of_declaration(GROUP, family.name)
    if found:
        fail(f"the module of the Family imports {', '.join(found)}: name its parts as text, and import it there")


def test_its_settings_go_round(family: Family) -> None:
    """Every preset is a complete model that survives JSON, and an unknown field is refused."""
    family.model.model_json_schema()
    for name in family.presets:
        model = family.model.model_validate_json(json.dumps({"preset": name}))
        again = family.model.model_validate_json(model.model_dump_json())
        if again != model:
            fail(f"the preset {name} is another model after it was written to JSON and read")
    try:
        family.model.model_validate_json(json.dumps({"no_such_field": 1}))
    except ValidationError:
        return
    fail("an unknown field of `model` is accepted: derive its class from ModelSpec, which forbids it")


def test_its_trial_is_a_job(case: Case) -> None:
    """The settings of the trial are those of a job."""
    try:
        case.job()
    except ValidationError as error:
        fail(f"its trial is no job: {error}")


def test_importing_its_parts_starts_nothing(case: Case, tmp_path: Path) -> None:
    """Importing the learner and the parts starts no thread and no process and opens no device."""
    modules = FAMILIES[case.family].modules(case.framework)
    for module, why in harm_of(case.server, modules, tmp_path).items():
        fail(f"{module}: {why}; do that in build(), because a device that is opened before a fork is lost")
