"""Every learner, in either framework: its state is all of it. Loaded into another, it goes on bit for bit with every
optimizer; and a step that is not finite leaves the weights alone. (Runs, and that no part is spare:
test_exact_resume.)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nightshift.families.learner import LearnerState
from nightshift.testing.fixtures import Pair
from nightshift.testing.test_learner import Outcome, check_not_finite
from nightshift.testing.test_learner import test_a_run_goes_on_bit_for_bit as test_a_run_goes_on_bit_for_bit
from nightshift.testing.test_learner import (
    test_the_state_of_what_was_loaded_is_what_was_saved as test_the_state_of_what_was_loaded_is_what_was_saved,
)
from tests.support.frameworks import FRAMEWORKS, learner
from worker.families.text_classifier.words import WordNumbers
from worker.training.words.affixes import AFFIXES

pytest.importorskip("torch")
pytest.importorskip("tensorflow")

ROWS, BATCH = 40, 8
CNN = {"image_size": (14, 15), "filters": [3, 4], "pool": [True, False], "dense": [6], "dropout": 0.3}
GRU = {"embedding": 5, "units": [6, 7], "window": 9, "dropout": 0.3, "normalization": "layer"}
GAN = {
    "image_size": (14, 15), "latent": 5, "generator_dense": [6], "generator_filters": [4, 3], "generator_dropout": 0.2,
    "discriminator_filters": [3, 4], "discriminator_dense": [5], "discriminator_dropout": 0.2,
}  # fmt: skip
_draw = np.random.default_rng(11)
IMAGES = {"x": _draw.integers(0, 256, (ROWS, 14, 15, 1)).astype(np.uint8), "y": _draw.integers(0, 10, ROWS)}
CLASSIFIER = {"embedding": 5, "units": [6, 7], "dense": [4], "length": 10, "dropout": 0.3}
DOCUMENTS: dict[str, Any] = {
    "x": (_draw.integers(1, 31, (ROWS, 10)) * (np.arange(10) < np.arange(ROWS)[:, None] % 10 + 1)).astype(np.int32),
    "y": np.arange(ROWS) % 3,
}
TEXT = {"windows": _draw.integers(0, 30, (ROWS, 10)).astype(np.uint16)}
_WORDS = np.concatenate([np.arange(1, 31)[:, None], _draw.integers(0, 20_000, (30, len(AFFIXES)))], 1).astype(np.int32)
DOCUMENTS["x"] = WordNumbers.of(DOCUMENTS["x"], _WORDS)

#: family, model, facts, training, data: each uses as much as its family has to remember.
FAMILIES: dict[str, tuple[Any, ...]] = {
    "cnn": ("cnn", {**CNN, "normalization": "batch"}, {"classes": list("0123456789")}, ["shift", "erase"], IMAGES),
    "gan": ("gan", GAN, {}, [], IMAGES),
    "gru_lm": ("gru_lm", GRU, {"vocabulary": 30}, ["word_deletion", "word_dropout", "word_replacement"], TEXT),
    "text_classifier": (
        "text_classifier", CLASSIFIER, {"vocabulary": 30, "classes": list("abc")}, ["word_deletion", "word_dropout"],
        DOCUMENTS,
    ),
}  # fmt: skip
FEATURES = {
    "cnn": ("conv", "norm"),
    "gan": ("discriminator.conv", "discriminator.norm"),
    "gru_lm": ("embedding", "gru", "norm"),
    "text_classifier": ("embedding", "affixes", "rnn"),
}
CASES = [(family, framework) for family in FAMILIES for framework in FRAMEWORKS]


def made(family: str, framework: str, frozen: tuple[str, ...] = (), **training: Any) -> Any:
    """A learner with data; more training settings may be given."""
    name, model, facts, augment, data = FAMILIES[family]
    facts = {**facts, "frozen": frozen}
    settings = {"optimizer": "adamw", "weight_decay": 0.1, "lr_schedule": "onecycle", "augment": augment}
    one = learner(name, framework, facts, model, **{**settings, "grad_clip": 1.0, **training})
    one.set_data(data)
    return one


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    family, framework = request.param
    return family, framework


@pytest.fixture(scope="module")
def pair(case: tuple[str, str]) -> Pair:
    return Pair.of(made(*case, grad_clip=None), made(*case, grad_clip=None), ROWS, FAMILIES[case[0]][-1])


def go(learner: Any, first: int, last: int) -> None:
    for step in range(first, last):
        learner.train_step(np.random.default_rng(step).permutation(ROWS)[:BATCH], step)


def whole_run(one: Any) -> tuple[LearnerState, Any]:
    """The state after five steps of eight, and the outcome of all of them."""
    go(one, 0, 5)
    state = one.state()
    go(one, 5, 8)
    return state, Outcome(one)


def resumed(other: Any, state: LearnerState) -> Any:
    go(other, 0, 2)  # whatever it did before is gone
    other.load_state(state)
    go(other, 5, 8)
    return Outcome(other)


@pytest.mark.parametrize(
    ("family", "framework", "optimizer"),
    [
        (*case, optimizer)
        for case in CASES
        if case[1] == "torch" or case[0] == "gan"  # families of one optimizer share what handles its state
        for optimizer in ("sgd", "rmsprop", "adadelta")
    ],
)
def test_a_run_goes_on_bit_for_bit_with(family: str, framework: str, optimizer: str) -> None:
    """In the learner that has gone further: what the state leaves out would be as it was later."""
    one = made(family, framework, optimizer=optimizer)
    state, whole = whole_run(one)
    assert resumed(one, state) == whole


def test_in_bfloat16_it_goes_on_too_and_frozen_weights_stay_while_others_learn(case: tuple[str, str]) -> None:
    frozen = FEATURES[case[0]]
    one = made(*case, frozen, precision="bfloat16")
    before = one.weights()
    state, whole = whole_run(one)
    assert resumed(one, state) == whole
    for name, array in one.weights().items():
        assert np.array_equal(array, before[name]) == name.startswith(frozen), name


def test_measuring_and_predicting_touch_nothing(pair: Pair) -> None:
    one, other = pair.begun()
    go(one, 0, 3)
    go(other, 0, 3)
    one.evaluate(pair.held_out, 7)
    one.predict(next(iter(pair.held_out.values())), 16)
    go(one, 3, 5)
    go(other, 3, 5)
    assert Outcome(one) == Outcome(other)


def test_a_loss_of_each_network_that_is_not_finite_leaves_the_weights_alone(pair: Pair, case: tuple[str, str]) -> None:
    for network in ("generator.", "discriminator.") if case[0] == "gan" else ("",):
        one, _ = pair.begun()
        start = one.weights()
        go(one, 0, 2)
        name = f"{network}output.bias"
        assert not np.array_equal(one.weights()[name], start[name]), "it learns again"
        check_not_finite(pair, one, [name])
