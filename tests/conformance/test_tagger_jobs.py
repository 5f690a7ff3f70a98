"""Jobs of taggers: they learn, keep their words in fine-tuning, and write a row for each sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from nightshift.names import BATCH_INFER, EVALUATE, FINETUNE
from nightshift.testing.attempts import outcome
from nightshift.testing.datasets import store_documents
from shared.datasets.ingest.tokens import TOKENIZER
from shared.specs.jobs import job_spec_adapter
from tests.support.training import CASES, attempt
from worker.families.tagger.trial_data import Sentence, sentences, stored

FRAMEWORKS = ("torch", "tensorflow")
SMALL = {"embedding": 16, "affixes": 6, "units": [24], "dropout": 0.2, "vocabulary_size": 50_000, "length": 6}


def trained(framework: str, folder: Path, data_set: Path, **training: Any) -> Path:
    """Train a small tagger and return its job's folder."""
    pytest.importorskip(framework)
    spec = CASES[f"tagger-{framework}"].spec(
        epochs=8, batch_size=16, lr_schedule="constant", warmup_steps=0, validation_split=0.1, **training
    )
    spec["model"] |= SMALL
    assert attempt(spec, folder, data_set) == 0
    return folder


def job(body: dict[str, Any]) -> dict[str, Any]:
    return job_spec_adapter.validate_json(json.dumps(body)).model_dump(mode="json")


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences whose entities follow from the words around them; most names of the test part are new."""
    parts = {"train": sentences(400), "test": sentences(150, seed=1)}
    return stored(tmp_path_factory.mktemp("datasets"), parts)


@pytest.fixture(scope="module")
def done(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished job in torch."""
    return {"torch": trained("torch", tmp_path_factory.mktemp("jobs") / "torch", data_set)}


def lucky_guess(true: list[Sentence]) -> float:
    """Return the accuracy of a tagger that always says O."""
    tags = [tag for sentence in true for _, tag in sentence]
    return tags.count("O") / len(tags)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_learns_names_that_it_has_not_seen(framework: str, data_set: Path, tmp_path: Path) -> None:
    folder = trained(framework, tmp_path / "job", data_set)
    metrics = outcome(folder)["metrics"]
    assert metrics["f1_entity"] > 0.9
    assert metrics["test_accuracy"] > lucky_guess(sentences(150, seed=1)) + 0.2
    document = json.loads((folder / "artifacts" / "evaluation.json").read_text())
    assert [row["entity"] for row in document["per_entity"]] == ["LOC", "ORG", "PER"]
    assert sum(row["support"] for row in document["per_class"]) == document["tokens"]
    assert np.array(document["confusion_matrix"]).trace() / document["tokens"] == pytest.approx(
        metrics["test_accuracy"]
    )


def test_its_report_can_be_read(done: dict[str, Path]) -> None:
    root = done["torch"] / "artifacts"
    for name in ("curves.png", "confusion_matrix.png", "entities.png", "worst_sentences.txt"):
        assert (root / name).stat().st_size > 0
    worst = json.loads((root / "evaluation.json").read_text())["worst_sentences"]
    losses = [one["loss"] for one in worst]
    assert losses == sorted(losses, reverse=True)
    for one in worst:
        given = sentences(150, seed=1)[one["row"]]
        assert (one["tokens"], one["tags"]) == ([word for word, _ in given], [tag for _, tag in given])
        assert one["tags"] != one["predicted"]
        assert f"── loss {one['loss']:.3f} · row {one['row']}\n" in (root / "worst_sentences.txt").read_text()


def test_batch_inference_writes_a_row_for_each_sentence(done: dict[str, Path], data_set: Path, tmp_path: Path) -> None:
    inference = {"framework": "torch", "task": "predict", "output": "parquet", "batch_size": 40}
    spec = job({"kind": BATCH_INFER, "model_ref": "parent", "dataset": "any", "inference": inference})
    assert attempt(spec, tmp_path / "job", data_set, model=done["torch"] / "artifacts" / "model") == 0
    rows = pq.read_table(tmp_path / "job" / "artifacts" / "predictions.parquet").to_pylist()
    given = [*sentences(400), *sentences(150, seed=1)]
    assert [row["tokens"] for row in rows] == [[word for word, _ in sentence] for sentence in given]
    assert [len(row["tags"]) for row in rows] == [len(row["probabilities"]) for row in rows] == [len(s) for s in given]
    assert (rows[400]["split"], rows[400]["row"], rows[400]["id"]) == ("test", 0, "test/0")
    pairs = [
        pair for row, one in zip(rows[400:], given[400:], strict=True) for pair in zip(row["tags"], one, strict=True)
    ]
    right = sum(found == tag for found, (_, tag) in pairs) / len(pairs)
    metrics = outcome(done["torch"])["metrics"]
    assert right == pytest.approx(metrics["test_accuracy"], abs=1e-9)


def test_plain_text_is_tagged_document_by_document(done: dict[str, Path], tmp_path: Path) -> None:
    plain = store_documents(tmp_path, [b"It was cold in Bakelo,\nsaid mr. Tovizu.\n", b" \n", b"nothing"])
    inference = {"framework": "torch", "task": "predict", "output": "parquet"}
    spec = job({"kind": BATCH_INFER, "model_ref": "parent", "dataset": "any", "inference": inference})
    assert attempt(spec, tmp_path / "job", plain, model=done["torch"] / "artifacts" / "model") == 0
    rows = pq.read_table(tmp_path / "job" / "artifacts" / "predictions.parquet").to_pylist()
    words = ["It", "was", "cold", "in", "Bakelo", ",", "said", "mr", ".", "Tovizu", "."]
    assert [row["tokens"] for row in rows] == [words, ["nothing"], ["the", "birds"]]
    assert outcome(tmp_path / "job")["metrics"]["bad_rows"] == 1


def test_fine_tuning_keeps_the_words_and_begins_other_tags_anew(
    done: dict[str, Path], data_set: Path, tmp_path: Path
) -> None:
    def renamed(some: list[Sentence]) -> list[Sentence]:
        return [[(word, {"B-LOC": "PLACE", "I-LOC": "PLACE"}.get(tag, "OTHER")) for word, tag in one] for one in some]

    model, other = done["torch"] / "artifacts" / "model", tmp_path / "data"
    folder = stored(other, {"train": renamed(sentences(200, seed=2)), "test": renamed(sentences(60, seed=3))})
    spec = job(
        {
            "kind": FINETUNE, "model_ref": "parent", "dataset": "any", "framework": "torch",
            "training": {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, "validation_split": 0.1},
        }
    )  # fmt: skip
    assert attempt(spec, tmp_path / "job", folder, model=model) == 0
    kept = tmp_path / "job" / "artifacts" / "model"
    assert (kept / TOKENIZER).read_bytes() == (model / TOKENIZER).read_bytes()
    assert json.loads((kept / "config.json").read_text())["tags"] == ["OTHER", "PLACE"]
    metrics = outcome(tmp_path / "job")["metrics"]
    assert "f1_entity" not in metrics, "these tags mark no entities"
    assert metrics["f1_macro"] > 0.9

    spec = job({"kind": EVALUATE, "model_ref": "parent", "dataset": "any", "framework": "torch"})
    assert attempt(spec, tmp_path / "again", folder, model=kept) == 0
    assert outcome(tmp_path / "again")["metrics"]["f1_macro"] == pytest.approx(metrics["f1_macro"], abs=1e-9)
    assert attempt(spec, tmp_path / "wrong", data_set, model=kept) != 0
    assert "tags that the model does not know: B-LOC" in (tmp_path / "wrong" / "output.txt").read_text()


def test_as_many_other_tags_begin_anew_too(done: dict[str, Path], tmp_path: Path) -> None:
    def swapped(some: list[Sentence]) -> list[Sentence]:
        return [[(word, tag.replace("LOC", "CITY")) for word, tag in one] for one in some]

    model = done["torch"] / "artifacts" / "model"
    folder = stored(tmp_path / "data", {"train": swapped(sentences(60)), "test": swapped(sentences(30, seed=1))})
    training = {"max_steps": 1, "batch_size": 16, "optimizer": "sgd", "learning_rate": 1e-9, "augment": []}
    body = {"kind": FINETUNE, "model_ref": "parent", "dataset": "any", "framework": "torch", "training": training}
    assert attempt(job(body), tmp_path / "job", folder, model=model) == 0
    before, after = (
        load_file(root / "model.safetensors") for root in (model, tmp_path / "job" / "artifacts" / "model")
    )
    same = {name for name in before if np.allclose(before[name], after[name], atol=1e-6)}
    assert before.keys() - same == {"output.weight", "output.bias"}
