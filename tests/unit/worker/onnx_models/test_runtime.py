"""The threads of an ONNX network: each computes rows of its own, and none of it shows in the outputs."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from nightshift.families.learner import Array
from worker.families.cnn import weights as cnn
from worker.families.cnn.family import CnnModel
from worker.families.mlp import weights as mlp
from worker.families.mlp.family import MlpModel
from worker.onnx_models.export import exported
from worker.onnx_models.runtime import OnnxNetwork

DRAW = np.random.default_rng(0)
PICTURES = DRAW.integers(0, 256, (150, 8, 8, 1), dtype=np.uint8)
NUMBERS = DRAW.normal(0, 1, (150, 1)).astype(np.float32)


def of_pictures(threads: int) -> OnnxNetwork:
    model = CnnModel.model_validate({"image_size": [8, 8], "filters": [4], "pool": [True], "dense": [6]})
    weights = cnn.initial(model, 3, 1)
    return OnnxNetwork(exported(model, weights, {"classes": ["a", "b", "c"], "image": [8, 8, 1]}), threads)


def of_numbers(threads: int) -> OnnxNetwork:
    columns = [{"kind": "numbers", "name": "height"}]
    facts = {"classes": ["a", "b", "c"], "preprocessing": {"task": "classes", "columns": columns}}
    model = MlpModel.model_validate({"target": "kind", "hidden": [4]})
    return OnnxNetwork(exported(model, mlp.initial(model, facts, 1), facts), threads)


class Session:
    """Records the rows of each call, which `before` precedes."""

    def __init__(self, network: OnnxNetwork, before: Any = lambda: None) -> None:
        self._run, self._before, self.rows = network._session.run, before, list[int]()
        network._session = self

    def run(self, names: None, inputs: dict[str, Array]) -> list[Array]:
        self._before()
        self.rows.append(*(len(array) for array in inputs.values()))
        found: list[Array] = self._run(names, inputs)
        return found


@pytest.mark.parametrize(("made", "inputs"), [(of_pictures, PICTURES), (of_numbers, NUMBERS)])
@pytest.mark.parametrize("batch_size", [1, 7, 64, 1_000])
def test_the_number_of_threads_does_not_show_in_the_outputs(made: Any, inputs: Array, batch_size: int) -> None:
    wanted = made(1).predict(inputs, 1_000)
    assert np.ptp(wanted, axis=0).min() > 0, "rows must differ, or their order is not seen"
    for threads in (1, 2, 5):
        np.testing.assert_allclose(made(threads).predict(inputs, batch_size), wanted, rtol=0, atol=1e-6)


def test_threads_compute_at_the_same_time() -> None:
    network, meeting = of_pictures(3), threading.Barrier(3)
    session = Session(network, lambda: meeting.wait(60))  # breaks, if fewer than three come
    network.predict(PICTURES[:96], 96)
    assert session.rows == [32, 32, 32]


@pytest.mark.parametrize(("batch_size", "most"), [(1, 1), (8, 2), (40, 10), (1_000, 32)])
def test_threads_share_a_batch_and_none_takes_many_pictures(batch_size: int, most: int) -> None:
    network = of_pictures(4)
    session = Session(network)
    network.predict(PICTURES, batch_size)
    assert max(session.rows) == most
    assert sum(session.rows) == len(PICTURES)


def test_rows_of_numbers_are_computed_a_batch_at_a_time() -> None:
    network = of_numbers(1)
    session = Session(network)
    network.predict(NUMBERS, 100)
    assert session.rows == [100, 50]


def test_few_rows_are_divided_among_the_threads() -> None:
    network = of_pictures(4)
    session = Session(network)
    network.predict(PICTURES[:6], 256)
    assert sorted(session.rows) == [2, 2, 2]


@pytest.mark.parametrize("failing", [1, 2])
def test_an_error_of_any_thread_is_raised(failing: int) -> None:
    network, meeting, lock, calls = of_pictures(2), threading.Barrier(2), threading.Lock(), list[int]()

    def fail() -> None:
        meeting.wait(60)
        with lock:
            calls.append(len(calls) + 1)
            number = calls[-1]
        if number == failing:
            raise MemoryError("no memory left")

    Session(network, fail)
    with pytest.raises(MemoryError, match="no memory left"):
        network.predict(PICTURES[:64], 64)


def test_no_rows_have_no_outputs() -> None:
    assert of_pictures(2).predict(PICTURES[:0], 32).shape == (0, 3)
