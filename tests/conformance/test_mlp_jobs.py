"""Jobs of the perceptron on tables: numbers and classes, other tables in fine-tuning, promotions, predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nightshift.testing.attempts import THREADS, NullReporter, make_assignment, outcome
from nightshift.testing.datasets import store_given
from shared.specs.jobs import job_spec_adapter
from tests.support.kinds import OTHER, Trained, artifact, finetune, infer, lines, spec, table, weights
from tests.support.tables import stored_table
from tests.support.training import CASES, attempt
from worker import kinds

pytest.importorskip("torch")
pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Parents = Callable[[str], Trained]
NUMBERS = {"target": "age", "hidden": [16], "loss": "mean_squared_error"}
PLAIN = {"epochs": 2, "early_stopping": None}


def train(framework: str, model: dict[str, Any], **fields: Any) -> dict[str, Any]:
    case = CASES[f"mlp-{framework}"]
    body = {**case.spec(**PLAIN), **fields}
    body["model"] = {"family": "mlp", "framework": framework, **model}
    return job_spec_adapter.validate_json(json.dumps(body)).model_dump(mode="json")


@pytest.mark.parametrize("framework", OTHER)
def test_numbers_are_learned_judged_and_predicted_in_their_units(
    framework: str, parents: Parents, tmp_path: Path
) -> None:
    data_set = parents("mlp-torch").data_set
    assert attempt(train(framework, NUMBERS), tmp_path / "job", data_set) == 0
    metrics = outcome(tmp_path / "job")["metrics"]
    assert {"test_r2", "test_mae", "test_rmse", "val_r2", "train_loss"} <= metrics.keys()
    assert metrics["test_r2"] > 0.5
    document = json.loads(artifact(tmp_path / "job", "evaluation.json").read_text())
    assert document["metrics"]["test_mae"] == metrics["test_mae"]
    assert artifact(tmp_path / "job", "residuals.png").exists()
    model = tmp_path / "job" / "artifacts" / "model"
    for number, other in enumerate(OTHER):
        assert attempt(infer(other, batch_size=100), tmp_path / f"infer{number}", data_set, model=model) == 0
    one, two = (table(tmp_path / f"infer{number}") for number in range(2))
    assert one.schema.names == ["id", "row", "prediction"]
    np.testing.assert_allclose(one["prediction"].to_numpy(), two["prediction"].to_numpy(), rtol=1e-4, atol=1e-4)
    assert 0 < one["prediction"].to_numpy().mean() < 8


def test_both_frameworks_predict_the_same_classes(parents: Parents, tmp_path: Path) -> None:
    parent = parents("mlp-torch")
    for framework in OTHER:
        assert attempt(infer(framework), tmp_path / framework, parent.data_set, model=parent.model) == 0
    one, two = (table(tmp_path / framework) for framework in OTHER)
    assert one["prediction"].to_pylist() == two["prediction"].to_pylist()
    np.testing.assert_allclose(
        np.stack(one["probabilities"].to_numpy()), np.stack(two["probabilities"].to_numpy()), atol=1e-4
    )


def test_a_table_without_target_and_with_unknown_categories_is_predicted(parents: Parents, tmp_path: Path) -> None:
    parent = parents("mlp-tensorflow")
    rows = "color,weight,legs,age,tame\npink,1.5,4,2,true\n,,2,5,\nred,9,4,1,false\n"
    fresh = store_given(tmp_path / "fresh", {"fresh.csv": rows}, "table")
    assert attempt(infer("torch", output="jsonl"), tmp_path / "job", fresh, model=parent.model) == 0
    found = lines(artifact(tmp_path / "job", "predictions.jsonl"))
    assert [row["id"] for row in found] == ["rows/0", "rows/1", "rows/2"]
    assert all(abs(sum(row["probabilities"]) - 1) < 1e-5 for row in found)
    assert {row["prediction"] for row in found} <= {"bird", "cat", "dog"}


def test_fine_tuning_on_another_table_keeps_statistics_and_other_classes_get_a_new_output(
    parents: Parents, tmp_path: Path
) -> None:
    parent = parents("mlp-torch")
    header, *rows = (
        f"{n % 9},{n % 4},red,{n % 2 == 0},{n % 7},{('cat', 'fish')[n % 2]}" if n else "weight,legs,color,tame,age,kind"
        for n in range(300)
    )
    other = store_given(tmp_path / "data", {"other.csv": "\n".join([header, *rows]) + "\n"}, "table")
    assert attempt(finetune("tensorflow", "features"), tmp_path / "job", other, model=parent.model) == 0
    before = json.loads((parent.model / "config.json").read_text())
    after = json.loads(artifact(tmp_path / "job", "model/config.json").read_text())
    assert after["preprocessing"] == before["preprocessing"]
    assert (before["classes"], after["classes"]) == (["bird", "cat", "dog"], ["cat", "fish"])
    learned, old = weights(tmp_path / "job"), parent.weights
    assert learned["output.weight"].shape == (2, old["output.weight"].shape[1])
    assert learned["dense0.weight"].tobytes() == old["dense0.weight"].tobytes()


def asked(metric: str, **promote: Any) -> dict[str, Any]:
    return {"register_as": "m", "promote": {"metric": metric, "evaluate_on": "any@1", **promote}}


def test_models_of_numbers_are_promoted_by_r2_and_not_against_classes(parents: Parents, tmp_path: Path) -> None:
    parent = parents("mlp-torch")
    short = train("tensorflow", NUMBERS, training={**CASES["mlp-torch"].spec(**PLAIN)["training"], "max_steps": 3})
    assert attempt(short, tmp_path / "short", parent.data_set) == 0
    weak = tmp_path / "short" / "artifacts" / "model"
    better = train("torch", NUMBERS, **asked("test_r2", confidence=0.9))
    assert attempt(better, tmp_path / "better", parent.data_set, champion=weak) == 0
    told = outcome(tmp_path / "better")["comparison"]
    assert told["better"], told
    assert told["candidate"] == pytest.approx(outcome(tmp_path / "better")["metrics"]["test_r2"], rel=1e-6)
    assert 0 < told["lower_bound"] < told["candidate"] - told["champion"]
    assert attempt(better, tmp_path / "foreign", parent.data_set, champion=parent.model) == 0
    told = outcome(tmp_path / "foreign")["comparison"]
    assert not told["better"]
    assert "one predicts numbers" in told["reason"] or "one predicts classes" in told["reason"]


def test_an_evaluation_on_the_training_table_repeats_the_figures_of_the_training(
    parents: Parents, tmp_path: Path
) -> None:
    parent = parents("mlp-torch")
    assert attempt(spec("evaluate", framework="tensorflow"), tmp_path, parent.data_set, model=parent.model) == 0
    found, trained = outcome(tmp_path)["metrics"], outcome(parent.folder)["metrics"]
    assert found == pytest.approx({name: trained[name] for name in found}, rel=1e-3)
    assert artifact(tmp_path, "confusion_matrix.png").exists()


def test_what_was_left_out_stands_in_the_log(tmp_path: Path) -> None:
    rows = pa.table({"a": [float(n) for n in range(60)], "same": [1] * 60, "y": [None, *(n % 2 for n in range(59))]})
    reporter = NullReporter()
    body = train("torch", {"target": "y", "hidden": [4]})
    kinds.run(make_assignment(body, tmp_path / "job", stored_table(tmp_path / "data", rows), THREADS, None), reporter)
    said = [frame[1] for frame in reporter.frames if isinstance(frame, tuple)]
    assert "left out, no target: 1 of 60 rows" in said
    assert "left out, the same value in all rows: same" in said
