"""The language model in torch and in TensorFlow is one model, dropout included, and its GRU continues a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nightshift.families.learner import LearnerState
from tests.support.frameworks import FRAMEWORKS, close, gradients, learner
from worker.families.gru_lm.language_model import Sampling, continue_tokens

pytest.importorskip("torch")
pytest.importorskip("tensorflow")

VOCABULARY, WINDOW, ROWS = 60, 13, 12
MODELS: dict[str, dict[str, Any]] = {
    "two layers": {"units": [9, 7]},
    "layer norm": {"units": [9, 7], "normalization": "layer"},
    "one layer, no dropout": {"units": [8], "dropout": 0.0},
}


def pair(model: Mapping[str, Any], **training: Any) -> tuple[Any, Any]:
    settings = {"embedding": 6, "window": WINDOW, "dropout": 0.2, **model}
    facts = {"vocabulary": VOCABULARY}
    return tuple(learner("gru_lm", framework, facts, settings, **training) for framework in FRAMEWORKS)  # type: ignore[return-value]


def windows() -> Any:
    """A stream with something to learn: each token is followed by one of two."""
    draw = np.random.default_rng(3)
    stream = np.zeros(ROWS * WINDOW + 1, np.uint16)
    for i in range(1, len(stream)):
        stream[i] = (3 * stream[i - 1] + draw.integers(1, 3)) % VOCABULARY
    return np.lib.stride_tricks.sliding_window_view(stream, WINDOW + 1)[::WINDOW]


@pytest.mark.parametrize("name", MODELS)
def test_same_weights_and_batch_give_the_same_outputs_loss_and_gradients(name: str) -> None:
    torch, tensorflow = pair(MODELS[name], optimizer="sgd")
    theirs = tensorflow.weights()
    for key, array in torch.weights().items():
        np.testing.assert_array_equal(array, theirs[key], err_msg=key)
    np.testing.assert_allclose(torch.predict(windows(), 5), tensorflow.predict(windows(), 5), rtol=1e-4)
    for one in (torch, tensorflow):
        one.set_data({"windows": windows()})
    wanted, found = gradients(torch, ROWS), gradients(tensorflow, ROWS)
    assert wanted.keys() == found.keys() == torch.weights().keys()
    for key in wanted:
        assert close(found[key], wanted[key]), key
    assert torch.read_metrics() == pytest.approx(tensorflow.read_metrics(), rel=1e-4)
    theirs = tensorflow.weights()
    for key, array in torch.weights().items():
        np.testing.assert_allclose(theirs[key], array, rtol=1e-4, atol=1e-7, err_msg=key)


@pytest.mark.parametrize(
    "augment",
    [["word_dropout"], ["word_replacement"], ["word_deletion"], ["word_deletion", "word_dropout", "word_replacement"]],
)
def test_noise_on_words_is_the_same_noise(augment: list[str]) -> None:
    plain, _ = pair({"units": [8]}, optimizer="sgd")
    torch, tensorflow = pair({"units": [8]}, optimizer="sgd", augment=augment)
    for one in (plain, torch, tensorflow):
        one.set_data({"windows": windows()})
    without, wanted, found = (gradients(one, ROWS) for one in (plain, torch, tensorflow))
    assert not close(wanted["embedding.weight"], without["embedding.weight"], 1e-2)
    for key in wanted:
        assert close(found[key], wanted[key]), key


def test_what_one_framework_trained_the_other_judges_and_continues_alike() -> None:
    torch, tensorflow = pair(MODELS["two layers"], learning_rate=0.02)
    for trained, other in ((torch, tensorflow), (tensorflow, torch)):  # the second goes on from what the first learned
        trained.set_data({"windows": windows()})
        for step in range(30):
            trained.train_step(np.arange(ROWS), step)
        before = trained.read_metrics()["loss"]
        assert before < np.log(VOCABULARY) - 0.3  # it did learn
        other.load_weights(trained.weights())
        np.testing.assert_allclose(other.predict(windows(), 4), trained.predict(windows(), 7), atol=1e-4)
        judged = trained.evaluate({"windows": windows()}, 5)
        assert other.evaluate({"windows": windows()}, 12) == pytest.approx(judged, rel=1e-4)
        prompts = [np.array([1, 4]), np.array([7]), np.array([5, 16, 49])]
        how = Sampling(max_new_tokens=12, temperature=0.7, top_k=5, top_p=0.9, seed=3)
        np.testing.assert_array_equal(continue_tokens(other, prompts, how), continue_tokens(trained, prompts, how))


def test_reading_in_pieces_is_reading_at_once() -> None:
    for one in pair(MODELS["layer norm"]):
        whole, _ = one.follow(windows(), None)
        first, state = one.follow(windows()[:, :6], None)
        second, _ = one.follow(windows()[:, 5:], state)
        np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-5)
        logits, state = one.read(windows()[:, :9], None)
        _, state = one.read(windows()[:, :4], None)
        again, _ = one.read(windows()[:, 4:9], state)
        np.testing.assert_allclose(again, logits, atol=1e-5)


def test_the_gru_continues_a_state_as_torch_does() -> None:
    import torch

    from worker.training.backends import tensorflow_cells, torch_recurrent

    inputs, units = 5, 4
    draw = np.random.default_rng(0)
    x, state = draw.standard_normal((7, 3, inputs)).astype("f"), draw.standard_normal((3, units)).astype("f")
    weights = [draw.standard_normal(s).astype("f") for s in ((12, inputs), (12, units), (12,), (12,))]
    theirs = torch.nn.GRU(inputs, units)
    with torch.no_grad():
        for parameter, array in zip(theirs.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(array))
    wanted = theirs(torch.from_numpy(x), torch.from_numpy(state)[None])[0].detach().numpy()
    ours = torch_recurrent.gru(*map(torch.from_numpy, (x, state)), list(map(torch.from_numpy, weights))).numpy()
    np.testing.assert_allclose(ours, wanted, atol=1e-6)
    found = tensorflow_cells.gru(x, state, weights, None, relu=False, computed="float32").numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_gradients_through_the_recurrence_are_autograds() -> None:
    import torch

    from worker.training.backends import torch_recurrent

    torch.manual_seed(0)
    shapes = ((6, 3, 5), (3, 4), (12, 5), (12, 4), (12,), (12,))
    values = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    free = [i != 1 for i in range(len(values))]  # the state takes no gradient
    parts = [value.requires_grad_(wanted) for value, wanted in zip(values, free, strict=True)]
    assert torch.autograd.gradcheck(lambda *a: torch_recurrent.gru(a[0], values[1], a[1:]), [parts[0], *parts[2:]])


@pytest.mark.parametrize("chunk", [10, 3], ids=["at once", "in chunks"])
def test_the_accuracy_of_training_is_that_of_the_weights_before_the_step(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout and noise, on the rows that are evaluated."""
    from worker.families.gru_lm import tensorflow_cross_entropy, torch_cross_entropy

    for module in (torch_cross_entropy, tensorflow_cross_entropy):
        monkeypatch.setattr(module, "CHUNK_LOGITS", chunk * VOCABULARY)
    for one in pair(MODELS["one layer, no dropout"], learning_rate=0.02):
        one.set_data({"windows": windows()})
        for step in range(20):
            one.train_step(np.arange(ROWS), step)
        one.read_metrics()
        expected = one.evaluate({"windows": windows()[:7]}, ROWS)["accuracy"]
        assert 0.1 < expected < 0.9
        one.train_step(np.arange(7), 20)
        assert one.read_metrics()["accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_state_of_before_there_was_an_accuracy_goes_on_without_one_until_the_next_row(framework: str) -> None:
    one = pair(MODELS["two layers"])[FRAMEWORKS.index(framework)]
    one.set_data({"windows": windows()})
    one.train_step(np.arange(ROWS), 0)
    state = one.state()
    wanted = one.read_metrics()
    loss, _, n = state.arrays["totals"]
    one.load_state(LearnerState({**state.arrays, "totals": np.array([loss, n])}, state.facts))
    found = one.read_metrics()
    assert np.isnan(found.pop("accuracy"))
    assert found == {name: value for name, value in wanted.items() if name != "accuracy"}
    one.train_step(np.arange(ROWS), 1)
    assert 0 <= one.read_metrics()["accuracy"] <= 1


def test_the_loss_in_chunks_is_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from worker.families.gru_lm import torch_cross_entropy

    monkeypatch.setattr(torch_cross_entropy, "CHUNK_LOGITS", 3 * VOCABULARY)
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(10, 6), torch.randn(VOCABULARY, 6), torch.randn(VOCABULARY)
    targets = (hidden @ weight.T + bias).argmax(1)
    targets[::2] = torch.randint(0, VOCABULARY, (5,))
    parts = [part.requires_grad_() for part in (hidden, weight, bias)]
    wanted = torch.nn.functional.cross_entropy(hidden @ weight.T + bias, targets)
    found, hits = torch_cross_entropy.chunked_cross_entropy(hidden, weight, bias, targets)
    torch.testing.assert_close(found, wanted)
    assert hits == ((hidden @ weight.T + bias).argmax(1) == targets).sum()
    for ours, theirs in zip(torch.autograd.grad(found, parts), torch.autograd.grad(wanted, parts), strict=True):
        torch.testing.assert_close(ours, theirs)
