"""What the ready-made learners in TensorFlow do beside what both frameworks do."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.nightshift.families.small import build, pictures, train

pytest.importorskip("tensorflow")


def test_variables_beside_the_weights_are_saved_once_they_changed() -> None:
    learner = build("tensorflow")
    assert not [name for name in learner.state().arrays if name.startswith("buffers/")]
    train(learner, last=3)
    found = {name: array for name, array in learner.state().arrays.items() if name.startswith("buffers/")}
    assert list(found) == ["buffers/counted.calls"]
    assert found["buffers/counted.calls"] == 3


def test_every_layer_that_draws_gets_its_key() -> None:
    learner = build("tensorflow")
    assert len(learner.random.variables) == 2  # noise and dropout
    assert len({tuple(row) for row in learner.random.keys(1, "step", 0)}) == 2


def test_weights_have_the_names_and_the_layout_of_torch() -> None:
    shapes = {name: array.shape for name, array in build("tensorflow").weights().items()}
    assert shapes == {
        "stem.weight": (6, 3, 3, 3), "norm.weight": (6,), "norm.bias": (6,), "norm.running_mean": (6,),
        "norm.running_var": (6,), "output.weight": (4, 6), "output.bias": (4,),
    }  # fmt: skip


def test_names_do_not_depend_on_what_was_built_before() -> None:
    first, second = build("tensorflow"), build("tensorflow")
    assert first.module.name == second.module.name
    assert [one.path for one in first.module.weights] == [one.path for one in second.module.weights]


def test_a_model_that_is_not_built_or_has_a_name_twice_is_refused() -> None:
    with pytest.raises(TypeError, match="it returned one that is not built"):
        build("tensorflow", "NotBuilt")
    with pytest.raises(ValueError, match=r"two weights have the name same\.weight"):
        build("tensorflow", "TwiceNamed")


def test_products_are_bfloat16_where_the_training_says_so() -> None:
    learner = build("tensorflow", precision="bfloat16")
    assert learner.module.get_layer("stem").compute_dtype == "bfloat16"
    assert all(array.dtype == np.float32 for array in train(learner, last=2).weights().values())
    assert learner.predict(pictures()["x"], 8).dtype == np.float32
    assert build("tensorflow", precision="auto").module.get_layer("stem").compute_dtype == "float32"
