"""What the pages are told of kinds, families and metrics is what shared/specs says."""

from __future__ import annotations

import pytest

from api.flower.facts import facts
from nightshift import metrics
from nightshift.metrics import CHARTS, HEADLINES, PACE, PARTS, result_sense, sense
from nightshift.names import KINDS
from shared.specs import supported
from shared.specs.families import FAMILIES
from shared.specs.jobs import Inference, check_inference


def test_every_kind_has_a_label_and_one_of_each_role() -> None:
    kinds = facts()["kinds"]
    assert [kind["name"] for kind in kinds] == list(KINDS) == list(supported.KIND_LABELS)
    assert [kind["name"] for kind in kinds if kind["makesModel"]] == ["train"]
    assert [kind["name"] for kind in kinds if kind["trains"] and not kind["makesModel"]] == ["finetune"]
    assert [kind["name"] for kind in kinds if kind["infers"]] == ["batch_infer"]
    assert [kind["name"] for kind in kinds if not kind["needsDataset"]] == ["batch_infer", "run"]
    assert [kind["name"] for kind in kinds if kind["runsProgram"]] == ["run"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_example_of_inference_is_one_that_the_family_runs(family: str) -> None:
    (told,) = [one for one in facts()["families"] if one["name"] == family]
    assert told["datasetKind"] == FAMILIES[family].dataset_kind
    assert check_inference(family, Inference(**told["inference"])) is None


def test_the_facts_of_metrics_agree_with_each_other() -> None:
    assert all(sense(name) == "max" for name in metrics.facts()["fractions"])
    assert not any(result_sense(name) for name in PACE)
    assert [part for part in PARTS if any(name.startswith(part) for name in HEADLINES)] == list(PARTS)
    assert all(sense(f"test_{chart}") for chart in CHARTS)
