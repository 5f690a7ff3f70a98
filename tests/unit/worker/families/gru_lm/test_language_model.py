"""What needs no framework: windows over a stream, noise, dropout's masks, drawing the next token, scores."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.families.training import Training
from shared.errors import BadData
from worker.families.gru_lm import language_model
from worker.families.gru_lm.data import load_splits, windows, write_extras
from worker.families.gru_lm.family import GruLmModel
from worker.families.gru_lm.language_model import Sampling, choose
from worker.families.gru_lm.plots import write_samples
from worker.training.numerics import word_noise
from worker.training.numerics.dropout import dropout_mask

# -- windows --------------------------------------------------------------------------------------


def test_windows_predict_every_token_but_the_first_once() -> None:
    found = windows(np.arange(32, dtype=np.uint16), 10)
    assert found.shape == (3, 11)
    assert found[:, 1:].reshape(-1).tolist() == list(range(1, 31))
    assert np.array_equal(found[:, :-1] + 1, found[:, 1:])


def test_windows_of_a_file_stay_on_the_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "stream.npy", np.arange(1000, dtype=np.uint16))
    stream = np.load(tmp_path / "stream.npy", mmap_mode="r")
    assert np.shares_memory(windows(stream, 9), stream)


@pytest.mark.parametrize("tokens", [0, 1, 9])
def test_a_stream_shorter_than_a_window_has_none(tokens: int) -> None:
    assert windows(np.zeros(tokens, np.uint16), 9).shape == (0, 10)


# -- noise ----------------------------------------------------------------------------------------


def test_noise_hits_the_share_it_should_and_repeats_by_step() -> None:
    tokens = np.arange(10, 20_010).reshape(100, 200)
    found = word_noise.add_token_noise(tokens, ["word_dropout"], 1, 5)
    assert (found == word_noise.UNKNOWN).mean() == pytest.approx(word_noise.WORD_DROPOUT, abs=0.01)
    assert np.array_equal(found, word_noise.add_token_noise(tokens, ["word_dropout"], 1, 5))
    assert not np.array_equal(found, word_noise.add_token_noise(tokens, ["word_dropout"], 1, 6))
    replaced = word_noise.add_token_noise(tokens, ["word_replacement"], 1, 5)
    assert (replaced != tokens).mean() == pytest.approx(word_noise.WORD_REPLACEMENT, abs=0.01)
    assert np.isin(replaced, tokens).all()
    assert np.array_equal(tokens, np.arange(10, 20_010).reshape(100, 200))


def test_masks_drop_the_share_asked_for() -> None:
    mask = dropout_mask(0, "dropout0", 3, (300, 400), 0.1)
    assert mask.mean() == pytest.approx(0.1, abs=0.005)
    assert np.array_equal(mask, dropout_mask(0, "dropout0", 3, (300, 400), 0.1))
    for other in (dropout_mask(0, "dropout1", 3, (300, 400), 0.1), dropout_mask(0, "dropout0", 4, (300, 400), 0.1)):
        assert (mask & other).mean() == pytest.approx(0.01, abs=0.003)


# -- the next token -------------------------------------------------------------------------------

LOGITS = np.log(np.array([[0.1, 0.4, 0.2, 0.3]]))


def drawn(how: Sampling) -> list[float]:
    """Share of each token over many draws."""
    uniform = (np.arange(10_000) + 0.5) / 10_000
    found = choose(np.repeat(LOGITS, len(uniform), axis=0), how, uniform)
    return (np.bincount(found, minlength=4) / len(uniform)).round(3).tolist()


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    assert drawn(Sampling()) == [0.1, 0.4, 0.2, 0.3]
    assert drawn(Sampling(top_k=4)) == [0.1, 0.4, 0.2, 0.3]
    assert drawn(Sampling(top_k=2)) == [0, 0.571, 0, 0.429]
    assert drawn(Sampling(top_p=0.5)) == [0, 0.571, 0, 0.429]
    assert drawn(Sampling(top_p=0.05)) == [0, 1, 0, 0]
    assert drawn(Sampling(top_p=1.0)) == [0.1, 0.4, 0.2, 0.3]
    assert drawn(Sampling(top_k=1)) == [0, 1, 0, 0]
    cold, hot = drawn(Sampling(temperature=0.05)), drawn(Sampling(temperature=100.0))
    assert cold[1] > 0.99
    assert max(hot) - min(hot) < 0.02


class Counting:
    """A model of the tokens 0 … 9 that is sure each is followed by the next, and remembers the last in its state."""

    def read(self, tokens: Any, state: Any) -> tuple[Any, Any]:
        assert state is None or len(state) == len(tokens)
        return np.where(np.arange(10) == (tokens[:, -1:] + 1) % 10, 20.0, 0.0), tokens[:, -1]

    def follow(self, windows: Any, state: Any) -> tuple[Any, Any]:
        sure = (windows[:, 1:] == (windows[:, :-1] + 1) % 10).astype(np.float32)
        return np.log(np.where(sure, 0.5, 0.1)).astype(np.float32), windows[:, -1]


class Digits:
    def encode(self, text: str) -> Any:
        return np.array([0 if c == "\n" else int(c) for c in text], np.uint32)

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(map(str, ids))


def test_prompts_of_any_length_are_continued_each_from_its_own_end() -> None:
    found = language_model.generate(Counting(), Digits(), ["3", "", "4567", "89"], Sampling(max_new_tokens=5))
    assert found == ["45678", "12345", "89012", "01234"]
    assert language_model.generate(Counting(), Digits(), [], Sampling()) == []


def test_a_prompts_continuation_does_not_depend_on_its_neighbours() -> None:
    how = Sampling(max_new_tokens=20, temperature=30.0, seed=4)
    prompts = ["1", "234", "5", "67"]
    whole = language_model.generate(Counting(), Digits(), prompts, how)
    parts = [language_model.generate(Counting(), Digits(), [p], how, first=i)[0] for i, p in enumerate(prompts)]
    assert whole == parts
    assert whole != language_model.generate(Counting(), Digits(), prompts, Sampling(20, 30.0, seed=5))


def test_scores_add_up_over_segments_and_ignore_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_model, "SEGMENT", 3)
    long, short, wrong = "1234567890123", "1", "9"
    found = language_model.score(Counting(), Digits(), [long, short, "", wrong], batch_size=3)
    assert [one.tokens for one in found] == [13, 1, 0, 1]
    assert found[0].log_likelihood == pytest.approx(13 * math.log(0.5))
    assert found[0].perplexity == pytest.approx(2)
    assert found[3].perplexity == pytest.approx(10)
    assert (found[2].log_likelihood, found[2].perplexity) == (0, 1)


# -- a stored text --------------------------------------------------------------------------------


@pytest.fixture
def text(tmp_path: Path) -> Path:
    from shared.datasets.store import NpyWriter, publish, staging

    with staging(tmp_path) as folder:
        for split, lines in (("train", 400), ("test", 30)):
            content = "".join(f"the {n} cats saw {n + 1} dogs\n" for n in range(lines)).encode()
            (folder / f"{split}.txt").write_bytes(content)
            bounds = NpyWriter(folder / f"{split}_docs.npy", np.int64)
            bounds.append(np.array([0, len(content)]))
            bounds.close()
        splits = {"train": {"count": 1}, "test": {"count": 1}}
        return publish(folder, {"kind": "text", "classes": [], "splits": splits, "tokenised": False}).folder


def test_a_text_becomes_windows_with_the_end_held_out(text: Path, tmp_path: Path) -> None:
    model = GruLmModel.model_validate({"window": 20, "vocabulary_size": 50})
    splits = load_splits(text, model, Training(validation_split=0.25))
    assert splits.validation is not None
    assert splits.test is not None
    train, held_out = splits.train["windows"], splits.validation["windows"]
    assert len(held_out) == pytest.approx(len(train) / 3, abs=1)
    assert splits.length == len(train)
    assert train[-1, -1] == held_out[0, 0]
    assert splits.facts["vocabulary"] == 50
    assert int(max(train.max(), held_out.max())) < 50
    assert splits.stream.tokenizer().decode(train[0, :6].tolist()) == "the <unk> cats saw 1 dogs"
    (tmp_path / "model").mkdir()
    (path,) = write_extras(tmp_path, splits)
    kept = load_splits(text, model, Training(), path.read_text())
    assert np.array_equal(kept.train["windows"][0], train[0])


def test_a_text_too_short_for_its_windows_is_refused(text: Path) -> None:
    model = GruLmModel.model_validate({"window": 50_000})
    with pytest.raises(BadData, match=r"lower model\.window"):
        load_splits(text, model, Training())


def test_samples_show_where_the_model_took_over(tmp_path: Path) -> None:
    path = write_samples({"samples": [{"prompt": "to be", "text": " or not\nto be"}]}, tmp_path / "samples.txt")
    assert "to be⟫ or not\nto be\n" in path.read_text()


def test_a_model_starts_from_the_frequencies_of_its_tokens() -> None:
    from worker.families.gru_lm.weights import output_bias

    found = output_bias(windows(np.array([3, 0, 0, 1, 0, 1, 0, 0, 0], np.uint16), 4), 4)
    assert found == pytest.approx(np.log(np.array([6 + 1, 2 + 1, 0 + 1, 0 + 1]) / 12))
