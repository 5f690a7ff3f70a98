"""What a family declares of its layers, which users see before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nightshift.families.family import Family
from nightshift.families.fields import ModelSpec
from nightshift.families.layers import Layer
from nightshift.families.learner import Splits
from nightshift.families.summary import differing
from nightshift.testing.cases import Case
from nightshift.testing.fresh import frameworks_of_layers
from nightshift.testing.reasons import fail
from shared.datasets.store import open_dataset

NONE = "the family declares no layers; a job lists its weights"


def test_its_layers_hold_the_numbers_of_its_weights(case: Case, splits: Splits, learner: Any) -> None:
    """Each layer of `layers` has as many parameters as the learner's weights of its name, and so have all together."""
    layers = _layers(case.job().model, splits.facts)
    if (why := differing(layers, learner.weights())) is not None:
        fail(f"layers() does not describe the learner: {why}")


def test_its_layers_need_no_framework(family: Family) -> None:
    """The layers of every preset are known where no framework is installed, as in the API."""
    if _layers_of_presets(family) is None:
        pytest.skip(NONE)
    if found := frameworks_of_layers(family.name):
        fail(f"layers() imports {', '.join(found)}: compute the shapes in plain Python")


def test_its_layers_survive_json(family: Family) -> None:
    """A model that was written to JSON and read has the same layers, also with facts from JSON."""
    if _layers_of_presets(family) is None:
        pytest.skip(NONE)
    for name in family.presets:
        model = _preset(family, name)
        facts = model.expected_facts(None)
        again = family.model.model_validate_json(model.model_dump_json())
        if _layers(again, json.loads(json.dumps(facts))) != _layers(model, facts):
            fail(f"the preset {name} has other layers after it was written to JSON and read")


def test_a_run_knows_the_facts_that_its_layers_need(case: Case, splits: Splits, data_set: Path) -> None:
    """What `expected_facts` supposes is known in a run under the same name, and leads to the same number of layers."""
    model = case.job().model
    layers = _layers(model, splits.facts)
    summary = json.loads(json.dumps(open_dataset(data_set).meta))
    for of, supposed in (("no", model.expected_facts(None)), ("the", model.expected_facts(summary))):
        if missing := supposed.keys() - splits.facts.keys():
            fail(f"expected_facts() of {of} data set names {', '.join(sorted(missing))}, which no run has in its facts")
        if len(_layers(model, supposed)) != len(layers):
            fail(f"with expected_facts() of {of} data set the model has another number of layers than in a run")


def _layers(model: ModelSpec, facts: Mapping[str, Any]) -> Sequence[Layer]:
    try:
        found = model.layers(facts)
    except Exception as error:
        fail(f"layers() raises {type(error).__name__}: {error}")
    if found is None:
        pytest.skip(NONE)
    return list(found)


def _layers_of_presets(family: Family) -> Sequence[Layer] | None:
    model = _preset(family, family.default_preset)
    return model.layers(model.expected_facts(None))


def _preset(family: Family, name: str) -> ModelSpec:
    return family.model.model_validate_json(json.dumps({"preset": name}))
