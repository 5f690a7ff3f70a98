"""What the training loop relies on in a learner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from nightshift.families.learner import Array, ScalesRate, Splits
from nightshift.testing import closeness
from nightshift.testing.cases import Case, snapshot
from nightshift.testing.fixtures import STEPS, Pair, Twins, Untouched, held_out, train
from nightshift.testing.reasons import fail
from shared.specs.families import FAMILIES


def same(left: Mapping[str, Array], right: Mapping[str, Array]) -> bool:
    """Return whether arrays are equal by name (`closeness`); NaN equals NaN."""
    one, other = ({name: np.asarray(array) for name, array in arrays.items()} for arrays in (left, right))
    return closeness.equal(one, other)


def changed(left: Mapping[str, Array], right: Mapping[str, Array]) -> str:
    """Return the names of arrays that differ, for a sentence."""
    names = [n for n in left if n not in right or np.asarray(left[n]).tobytes() != np.asarray(right[n]).tobytes()]
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "") or "the names"


def losses(values: Mapping[str, float]) -> list[str]:
    """Return the names of losses. A learner reports at least one."""
    found = [name for name in values if name.endswith("loss")]
    if not found:
        fail(f"it reports no metric that is or ends with `loss`: {', '.join(values) or 'none at all'}")
    return found


def judged(learner: Any, splits: Splits) -> dict[str, float]:
    """Return the metrics of held-out rows."""
    found: dict[str, float] = learner.evaluate(held_out(splits), 50)
    losses(found)
    return found


class Outcome:
    """Metrics and weights of a learner, which are equal to others as `closeness` says."""

    def __init__(self, learner: Any) -> None:
        """Read them."""
        self.metrics: dict[str, float] = learner.read_metrics()
        self.weights: dict[str, Array] = learner.weights()

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcome):
            return NotImplemented
        return closeness.equal((self.metrics, self.weights), (other.metrics, other.weights))


def test_equal_seeds_give_equal_learners(twins: Twins) -> None:
    """Two learners of one seed are equal after the same steps."""
    one, other = twins.ended.arrays, twins.also.arrays
    if not same(one, other):
        fail(
            f"two learners of one seed differ after {STEPS} steps ({changed(one, other)}): it draws random numbers "
            "that do not follow from training.seed and the step"
        )


def test_another_seed_gives_another_learner(case: Case, splits: Splits, twins: Twins) -> None:
    """The seed decides the first weights."""
    twins.one.load_state(twins.new)
    if same(case.build(splits, seed=1).weights(), twins.one.weights()):
        fail("a learner of another seed has the same weights: draw the first weights from training.seed")


def test_weights_are_canonical_and_go_round(case: Case, splits: Splits, learner: Any) -> None:
    """What `weights` returns is float32, can be loaded into a new learner, and gives the same metrics there."""
    weights = learner.weights()
    odd = [name for name, array in weights.items() if array.dtype != np.float32 or not array.flags.c_contiguous]
    if odd:
        fail(f"weights() must return contiguous float32 arrays; {odd[0]} is not one")
    other = case.build(splits)  # its own weights are those before the first step
    other.load_weights(weights)
    if not same(other.weights(), weights):
        fail(f"load_weights() does not load what weights() returns: {changed(weights, other.weights())} differ")
    if not closeness.equal(judged(other, splits), judged(learner, splits)):
        fail("a learner with the same weights evaluates differently: weights() leaves something out")


def test_the_model_that_is_kept_can_be_loaded(case: Case, splits: Splits, untouched: Untouched) -> None:
    """A learner loads `model.safetensors` of a finished run and returns its bytes."""
    kept = load_file(untouched.model / "model.safetensors")
    learner = case.build(splits)
    learner.load_weights(kept)
    if not same(learner.weights(), kept):
        fail(f"model.safetensors does not go round: {changed(kept, learner.weights())} differ")


def test_evaluating_touches_nothing(case: Case, splits: Splits, learner: Any) -> None:
    """`evaluate` and `predict` leave every array and fact of the state as it was."""
    before = snapshot(learner)
    judged(learner, splits)
    _check_equal(before, snapshot(learner), "evaluate()")
    if _predicts(case):
        learner.predict(next(iter(held_out(splits).values())), 16)
        _check_equal(before, snapshot(learner), "predict()")


def _check_equal(before: Any, after: Any, what: str) -> None:
    if not same(before.arrays, after.arrays):
        fail(f"{what} changes {changed(before.arrays, after.arrays)} of the state; it must change nothing")
    if before.facts != after.facts:
        fail(f"{what} changes the facts of the state; it must change nothing")


def _predicts(case: Case) -> bool:
    return "predict" in FAMILIES[case.family].tasks


def test_measuring_and_predicting_change_no_later_step(case: Case, pair: Pair) -> None:
    """A run that is evaluated in its middle goes on as one that is not."""
    one, other = pair.begun()
    pair.go(one, 0, 3)
    pair.go(other, 0, 3)
    one.evaluate(pair.held_out, 7)
    if _predicts(case):
        one.predict(next(iter(pair.held_out.values())), 16)
    pair.go(one, 3, 5)
    pair.go(other, 3, 5)
    if Outcome(one) != Outcome(other):
        fail("after evaluate() or predict() the next steps are others: they draw random numbers or change buffers")


def test_metrics_are_means_since_they_were_last_read(splits: Splits, twins: Twins) -> None:
    """`read_metrics` returns means over the steps since the last read, and the learning rate."""
    whole, one = twins.back(twins.new)
    whole.read_metrics()
    one.read_metrics()
    found = train(whole, splits, 2).read_metrics()
    if not found.get("learning_rate", 0) > 0:
        fail("read_metrics() must return the present learning_rate")
    each = list[dict[str, float]]()
    for step in range(2):
        train(one, splits, step + 1, step)
        each.append(one.read_metrics())
    for name in losses(found):
        expected = float(np.mean([read[name] for read in each]))
        if not np.isclose(found[name], expected, rtol=1e-5):
            fail(
                f"{name} of two steps is {found[name]:.6g} and the mean of both {expected:.6g}: "
                "read_metrics() must start anew"
            )


def test_a_scaled_rate_is_the_rate_of_the_next_steps(pair: Pair) -> None:
    """After `scale_rate`, if there is one, steps learn with the schedule's rate times the factor, and report it."""
    whole, half = pair.begun()
    if not isinstance(half, ScalesRate):
        pytest.skip("it has no scale_rate()")
    half.scale_rate(0.1)  # what counts is the last one
    half.scale_rate(0.5)
    try:
        pair.go(whole, 0, 2)
        pair.go(half, 0, 2)
    finally:
        half.scale_rate(1.0)
    unscaled, one = Outcome(whole), Outcome(half)
    full, scaled = unscaled.metrics, one.metrics
    if not np.isclose(scaled["learning_rate"], full["learning_rate"] / 2, rtol=1e-6):
        fail(
            f"with scale_rate(0.5) it reports the learning rate {scaled['learning_rate']:.6g} where it is "
            f"{full['learning_rate']:.6g} without: multiply each step's rate by the factor"
        )
    if all(np.array_equal(array, one.weights[name]) for name, array in unscaled.weights.items()):
        fail("with scale_rate(0.5) two steps change the weights as without: the optimizer must get the scaled rate")


def test_a_run_goes_on_bit_for_bit(pair: Pair) -> None:
    """The state of five steps, loaded into a learner that did something else, goes on to the same weights."""
    one, other = pair.begun()
    pair.go(one, 0, 5)
    state = one.state()
    kept = {name: np.copy(array) for name, array in state.arrays.items()}
    pair.go(one, 5, 8)
    if not same(kept, state.arrays):
        fail(f"a later step changes the snapshot that state() returned ({changed(kept, state.arrays)}): return copies")
    whole = Outcome(one)
    pair.go(other, 0, 2)  # whatever it did before is gone
    other.load_state(state)
    pair.go(other, 5, 8)
    if Outcome(other) != whole:
        fail(
            "after load_state() another learner goes on differently: something that decides a step (a random "
            "generator, a counter, a buffer) is kept outside of state()"
        )


def test_the_state_of_what_was_loaded_is_what_was_saved(pair: Pair) -> None:
    """`load_state` and `state` go round."""
    one, other = pair.begun()
    pair.go(one, 0, 5)
    state = snapshot(one)
    other.load_state(state)
    again = snapshot(other)
    if not same(state.arrays, again.arrays):
        fail(f"state() after load_state() is another: {changed(state.arrays, again.arrays)} differ")
    if dict(again.facts) != dict(state.facts):
        fail("state() after load_state() has other facts")


def test_a_loss_that_is_not_finite_leaves_the_weights_alone(pair: Pair) -> None:
    """A step whose loss is not a number is reported and changes no weight."""
    one, _ = pair.begun()
    start = one.weights()
    pair.go(one, 0, 2)
    learned = [name for name, array in one.weights().items() if not np.array_equal(array, start[name])]
    if not learned:
        fail("two steps change no weight")
    check_not_finite(pair, one, learned)


def check_not_finite(pair: Pair, one: Any, names: list[str]) -> None:
    """Put a NaN into weights, and check that the next steps change nothing."""
    poisoned = {name: np.copy(array) for name, array in one.weights().items()}
    for name in names:
        poisoned[name].reshape(-1)[0] = np.nan
    one.load_weights(poisoned)
    before = {key: array.tobytes() for key, array in one.weights().items()}
    pair.go(one, 2, 4)
    found = Outcome(one)
    metrics, after = found.metrics, {key: array.tobytes() for key, array in found.weights.items()}
    if all(np.isfinite(metrics[name]) for name in losses(metrics)):
        fail("with weights that are not numbers the loss is finite: read_metrics() must return it as it is")
    if after != before:
        wrong = [name for name in before if before[name] != after[name]]
        fail(f"a step whose loss is not finite changes {', '.join(wrong[:3])}: skip the update of such a step")
