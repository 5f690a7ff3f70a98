"""Gated promotion by real models: the champion of one framework is judged in the other's, on the very same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nightshift.testing.attempts import outcome
from shared.specs.families import FAMILIES
from shared.specs.jobs import job_spec_adapter
from tests.support.kinds import OTHER, Trained
from tests.support.training import attempt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLAIN = {"augment": [], "early_stopping": None}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("promotion")


Parents = Callable[[str], Trained]


def compared(champion: Trained, folder: Path, spec: dict[str, Any], model: Path | None = None) -> dict[str, Any]:
    body = job_spec_adapter.validate_python(spec).model_dump(mode="json")
    assert attempt(body, folder, champion.data_set, champion=champion.model, model=model) == 0
    return outcome(folder)


def asked(family: str, metric: str, **promote: Any) -> dict[str, Any]:
    assert metric in FAMILIES[family].judged_by
    return {"register_as": "m", "promote": {"metric": metric, "evaluate_on": "any@1", **promote}}


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_a_longer_training_beats_the_other_frameworks_champion(parents: Parents, root: Path, framework: str) -> None:
    champion = parents(f"cnn-{OTHER[framework]}")
    case = parents(f"cnn-{framework}").case
    spec = case.spec(epochs=4, batch_size=16, **PLAIN) | asked("cnn", "test_accuracy", confidence=0.95)
    found = compared(champion, root / f"longer-{framework}", spec)
    told = found["comparison"]
    assert (told["better"], told["version"]) == (True, 1), told
    assert told["candidate"] == pytest.approx(found["metrics"]["test_accuracy"])
    assert told["champion"] == pytest.approx(outcome(champion.folder)["metrics"]["test_accuracy"], abs=2e-3)
    assert 0 < told["lower_bound"] < told["candidate"] - told["champion"]


def test_an_equal_model_is_no_better(parents: Parents, root: Path) -> None:
    champion = parents("cnn-torch")
    spec = champion.case.spec(epochs=1, max_steps=40, **PLAIN) | asked("cnn", "test_loss")
    told = compared(champion, root / "equal", spec)["comparison"]
    assert (told["better"], told["candidate"]) == (False, told["champion"]), told
    assert told["reason"].endswith("not better")


def test_a_fine_tuned_language_model_is_compared_by_perplexity(parents: Parents, root: Path) -> None:
    champion = parents("gru_lm-tensorflow")
    training = {"epochs": 1, "batch_size": 4, "max_steps": 30, "learning_rate": 0.003}
    spec = {"kind": "finetune", "model_ref": "m", "dataset": "any", "framework": "torch", "training": training}
    spec |= asked("gru_lm", "test_perplexity", confidence=0.9)
    told = compared(champion, root / "tuned", spec, champion.model)["comparison"]
    assert told["better"], told
    assert told["candidate"] < told["champion"]
    assert 0 < told["lower_bound"] <= told["champion"] - told["candidate"]


def test_language_models_of_different_tokens_are_not_compared(parents: Parents, root: Path) -> None:
    champion = parents("gru_lm-tensorflow")
    spec = champion.case.spec(epochs=1, max_steps=5, **PLAIN) | asked("gru_lm", "test_perplexity")
    spec["model"] |= {"tokenizer": "char", "framework": "torch"}
    told = compared(champion, root / "letters", spec)["comparison"]
    assert not told["better"]
    assert "tokenizers differ" in told["reason"]


def test_a_gan_is_compared_by_the_judge_of_the_evaluation_set(parents: Parents, root: Path) -> None:
    champion = parents("gan-torch")
    spec = champion.case.spec(epochs=1, max_steps=45, early_stopping=None) | asked("gan", "frechet_distance")
    found = compared(champion, root / "gan", spec)
    told = found["comparison"]
    assert told["candidate"] == pytest.approx(found["metrics"]["frechet_distance"])
    assert told["champion"] == pytest.approx(outcome(champion.folder)["metrics"]["frechet_distance"])
    assert told["better"] is (told["candidate"] < told["champion"])


def test_a_champion_of_another_family_stays(parents: Parents, root: Path) -> None:
    champion = parents("gan-torch")
    spec = parents("cnn-torch").case.spec(epochs=1, max_steps=5, **PLAIN) | asked("cnn", "test_accuracy")
    told = compared(champion, root / "foreign", spec)["comparison"]
    assert not told["better"]
    assert "it is a gan, the new one a cnn" in told["reason"]
    assert told["candidate"] is not None
