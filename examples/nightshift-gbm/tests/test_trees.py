"""A model as arrays grows on like one that was never interrupted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nightshift_gbm import trees

SETTINGS: dict[str, Any] = {"max_depth": 2, "learning_rate": 0.1, "max_features": 0.5}


def data(classes: int) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 4)).astype(np.float32)
    raw = x[:, 0] - x[:, 1] * x[:, 2] + random.normal(size=120) / 4
    return x, np.digitize(raw, np.quantile(raw, np.linspace(0, 1, classes + 1)[1:-1])) if classes else raw


def grown(model: Any, rng: np.random.RandomState, classes: int, first: int, last: int) -> Any:
    for done in range(first, last, 3):
        rng.seed([7, done])
        model.set_params(n_estimators=done + 3).fit(*data(classes))
    return model


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_a_restored_model_grows_the_same_trees(classes: int) -> None:
    rng = np.random.RandomState()
    whole = grown(trees.new_model(SETTINGS, rng, classes=classes), rng, classes, 0, 12)
    rng = np.random.RandomState()
    half = trees.to_arrays(grown(trees.new_model(SETTINGS, rng, classes=classes), rng, classes, 0, 6))
    rng = np.random.RandomState()
    restored = trees.from_arrays(half, trees.new_model(SETTINGS, rng, classes=classes), columns=4, classes=classes)
    for name, values in trees.to_arrays(restored).items():
        np.testing.assert_array_equal(values, half[name])
    resumed = grown(restored, rng, classes, 6, 12)
    for name, values in trees.to_arrays(whole).items():
        np.testing.assert_array_equal(values, trees.to_arrays(resumed)[name])
    x = data(classes)[0]
    np.testing.assert_array_equal(whole.predict(x), resumed.predict(x))


def test_trees_of_another_version_are_refused() -> None:
    rng = np.random.RandomState()
    arrays = trees.to_arrays(grown(trees.new_model(SETTINGS, rng, classes=2), rng, 2, 0, 3))
    arrays["nodes"] = arrays["nodes"][:, :-8]
    with pytest.raises(ValueError, match="another version of scikit-learn"):
        trees.from_arrays(arrays, trees.new_model(SETTINGS, rng, classes=2), columns=4, classes=2)
