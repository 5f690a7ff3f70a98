"""Fine-tuning, evaluation and batch inference work for every family in both frameworks.

Either framework may have trained the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nightshift.testing.attempts import Left, outcome
from nightshift.testing.datasets import store_documents
from shared.datasets.store import open_dataset
from shared.specs.families import FAMILIES
from tests.support import kinds
from tests.support.kinds import OTHER, Trained, artifact, finetune, infer, lines, table
from tests.support.training import CASES, attempt

pytest.importorskip("torch")
pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Parents = Callable[[str], Trained]


@pytest.mark.parametrize("name", CASES)
def test_the_other_framework_finetunes_it_and_frozen_weights_keep_every_bit(
    name: str, parents: Parents, tmp_path: Path
) -> None:
    parent = parents(name)
    framework = OTHER[parent.case.framework]
    assert attempt(finetune(framework, "features"), tmp_path, parent.data_set, model=parent.model) == 0
    before, after = parent.weights, kinds.weights(tmp_path)
    features = FAMILIES[parent.case.family].features
    frozen = [key for key in before if key.startswith(features)]
    learned = [key for key in before if key not in frozen and ".running_" not in key]
    assert frozen
    for key in frozen:
        assert after[key].tobytes() == before[key].tobytes(), key
    assert all(not np.array_equal(after[key], before[key]) for key in learned if key.endswith("weight"))
    config = json.loads(artifact(tmp_path, "model/config.json").read_text())
    assert config["framework"] == framework
    summary = json.loads(artifact(tmp_path, "model/summary.json").read_text())
    assert summary["parameters"] == sum(after[key].size for key in learned)
    assert summary["fixed"] == sum(after[key].size for key in after if key not in learned)
    text = artifact(tmp_path, "summary.txt").read_text()
    assert ["trained", f"{summary['parameters']:,}"] in [line.split() for line in text.splitlines()]
    assert list((tmp_path / "artifacts" / "tensorboard").iterdir())


@pytest.mark.parametrize("name", ["cnn-tensorflow", "gru_lm-torch", "gan-tensorflow"])
def test_both_frameworks_infer_the_same_from_one_model(name: str, parents: Parents, tmp_path: Path) -> None:
    parent = parents(name)
    for number, task in enumerate(parent.case.inference):
        folders = [tmp_path / f"{framework}{number}" for framework in OTHER]
        for folder, framework in zip(folders, OTHER, strict=True):
            assert attempt(infer(framework, batch_size=100, **task), folder, parent.data_set, model=parent.model) == 0
        one, other = map(table, folders)
        assert one.schema == other.schema
        for column in one.column_names:
            if column == "probabilities":
                np.testing.assert_allclose(
                    np.stack(one[column].to_numpy()), np.stack(other[column].to_numpy()), atol=1e-4
                )
            elif column in ("probability", "log_likelihood", "perplexity"):
                np.testing.assert_allclose(one[column].to_numpy(), other[column].to_numpy(), rtol=1e-4)
            elif column != "png":
                assert one[column].to_pylist() == other[column].to_pylist()


@pytest.mark.parametrize("name", ["cnn-torch", "gru_lm-tensorflow"])
def test_a_killed_finetuning_ends_as_one_never_touched(name: str, parents: Parents, tmp_path: Path) -> None:
    parent = parents(name)
    spec = finetune(OTHER[parent.case.framework])
    assert attempt(spec, tmp_path / "untouched", parent.data_set, model=parent.model) == 0
    assert attempt(spec, tmp_path / "killed", parent.data_set, model=parent.model, kill_after=25) == -9
    assert attempt(spec, tmp_path / "killed", parent.data_set, model=parent.model) == 0
    killed, untouched = (Left.of(tmp_path / how) for how in ("killed", "untouched"))
    assert killed.difference(untouched, parent.case.tolerance) is None
    summaries = [artifact(tmp_path / how, "summary.txt").read_text() for how in ("killed", "untouched")]
    assert summaries[0] == summaries[1]


def test_every_row_once_in_input_order_with_its_id(parents: Parents, tmp_path: Path) -> None:
    parent = parents("cnn-torch")
    assert attempt(infer("torch", batch_size=100), tmp_path, parent.data_set, model=parent.model) == 0
    stored, found = open_dataset(parent.data_set), table(tmp_path)
    wanted = [f"{split}/{row}" for split in ("train", "test") for row in range(stored.count(split))]
    assert found["id"].to_pylist() == wanted
    probabilities = np.stack(found["probabilities"].to_numpy())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert found["label_index"].to_pylist() == probabilities.argmax(axis=1).tolist()
    assert found["label"].to_pylist() == [stored.classes[i] for i in found["label_index"].to_pylist()]
    assert found["probability"].to_pylist() == probabilities.max(axis=1).tolist()


def test_documents_without_tokens_are_errors_with_their_reason(parents: Parents, tmp_path: Path) -> None:
    parent = parents("gru_lm-torch")
    data_set = store_documents(tmp_path / "data", [b"the cats", b"", b"   ", b"\xff saw", b"2 dogs\n"])
    spec = infer("torch", task="score", output="jsonl", batch_size=2)
    assert attempt(spec, tmp_path / "job", data_set, model=parent.model) == 0
    scored = lines(artifact(tmp_path / "job", "predictions.jsonl"))
    failed = lines(artifact(tmp_path / "job", "errors.jsonl"))
    assert [row["id"] for row in scored] == ["train/0", "train/4", "test/0"]
    assert [(row["id"], row["reason"]) for row in failed] == [
        ("train/1", "the document is empty"),
        ("train/2", "the document is empty"),
        ("train/3", "the document is not UTF-8 at byte 0"),
    ]
    assert outcome(tmp_path / "job")["metrics"] == {"rows": 3.0, "errors": 3.0}


@pytest.mark.parametrize(("reason", "ends"), [("pause", "stopped"), ("finish", "result")])
def test_a_stop_is_obeyed_between_chunks(reason: str, ends: str, parents: Parents, tmp_path: Path) -> None:
    parent = parents("cnn-torch")
    spec = infer("torch", batch_size=100)
    assert attempt(spec, tmp_path, parent.data_set, model=parent.model, stop_after=(3, reason)) == 0
    assert (outcome(tmp_path)["type"], outcome(tmp_path)["step"]) == (ends, 200)
    if reason == "finish":
        assert table(tmp_path)["id"].to_pylist() == [f"train/{row}" for row in range(200)]


def test_another_number_of_classes_gets_a_new_head_and_keeps_the_rest(parents: Parents, tmp_path: Path) -> None:
    parent = parents("cnn-tensorflow")
    three = kinds.subset(open_dataset(parent.data_set), [7, 1, 4], tmp_path / "datasets")
    assert attempt(finetune("torch", "features"), tmp_path / "job", three, model=parent.model) == 0
    before, after = parent.weights, kinds.weights(tmp_path / "job")
    assert after["output.weight"].shape == (3, before["output.weight"].shape[1])
    assert after["conv0.weight"].tobytes() == before["conv0.weight"].tobytes()
    moved = np.abs(after["dense0.weight"] - before["dense0.weight"]).max()
    assert 0 < moved < 0.2  # it went on from the parent's, not from new values
    assert json.loads(artifact(tmp_path / "job", "model/config.json").read_text())["classes"] == ["7", "1", "4"]


def test_as_many_other_classes_get_a_new_head_too(parents: Parents, tmp_path: Path) -> None:
    parent = parents("cnn-torch")
    turned = kinds.subset(open_dataset(parent.data_set), list(range(9, -1, -1)), tmp_path / "datasets")
    still = {"max_steps": 1, "optimizer": "sgd", "learning_rate": 1e-9}
    for folder, data_set in (("same", parent.data_set), ("turned", turned)):
        assert attempt(finetune("torch", **still), tmp_path / folder, data_set, model=parent.model) == 0
    before = {name: array for name, array in parent.weights.items() if "running" not in name}
    for folder, fresh in (("same", set()), ("turned", {"output.weight", "output.bias"})):
        after = kinds.weights(tmp_path / folder)
        kept = {name for name in before if np.allclose(before[name], after[name], atol=1e-6)}
        assert before.keys() - kept == fresh, folder


def test_evaluation_matches_classes_by_name(parents: Parents, tmp_path: Path) -> None:
    parent = parents("cnn-torch")
    stored = open_dataset(parent.data_set)
    turned = kinds.subset(stored, list(range(9, -1, -1)), tmp_path / "datasets")
    for folder, data_set, framework in (("as it was", parent.data_set, "torch"), ("turned", turned, "tensorflow")):
        spec = kinds.spec("evaluate", framework=framework)
        assert attempt(spec, tmp_path / folder, data_set, model=parent.model) == 0
    one, other = (outcome(tmp_path / folder)["metrics"] for folder in ("as it was", "turned"))
    assert other == pytest.approx(one, rel=1e-4)
    assert one["test_accuracy"] == outcome(parent.folder)["metrics"]["test_accuracy"]
    left = {path.name for path in (tmp_path / "turned" / "artifacts").iterdir()}
    assert left == {"evaluation.json", "confusion_matrix.png", "roc.png", "predictions.png"}


def test_a_language_model_keeps_its_tokenizer(parents: Parents, tmp_path: Path) -> None:
    parent = parents("gru_lm-torch")
    text = b"".join(b"the parrots saw %d cats and no elephants\n" % (n % 4) for n in range(200))
    data_set = store_documents(tmp_path / "datasets", [text])
    assert attempt(finetune("tensorflow", batch_size=4), tmp_path / "job", data_set, model=parent.model) == 0
    kept = artifact(tmp_path / "job", "model/tokenizer.json").read_bytes()
    assert kept == (parent.model / "tokenizer.json").read_bytes()
    assert kinds.weights(tmp_path / "job")["embedding.weight"].shape == parent.weights["embedding.weight"].shape
