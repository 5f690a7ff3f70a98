"""Keras models as a learner holds them: their weights, other variables, and random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from nightshift.families.learner import Array
from worker.training.backends import tensorflow_support as support
from worker.training.numerics import layout
from worker.training.numerics.data_order import rng_seed

#: Names of Keras's variables -> canonical ones, which are torch's.
_NAMES = {
    "kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
    "moving_variance": "running_var",
}  # fmt: skip


def built(network: Callable[[], object], seed: int, precision: str, placement: AbstractContextManager[Any]) -> Any:
    """Return the model that `network` builds in a placement, with names and initial values by the seed only.

    Raises TypeError if it is no model or not built, RuntimeError if Keras has another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(f"Keras runs on {keras.backend.backend()} here; unset KERAS_BACKEND")
    keras.utils.clear_session(free_memory=False)  # layers without a name are counted from 1 again
    keras.utils.set_random_seed(rng_seed(seed, "init", 0) & 0xFFFFFFFF)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        with placement:  # not around the session that is cleared: a strategy's scope belongs to it
            model = network()
    finally:
        keras.config.set_dtype_policy(policy)
    if not isinstance(model, keras.Model) or not model.built:
        found = "one that is not built" if isinstance(model, keras.Model) else type(model).__name__
        raise TypeError(
            f"network() must return a keras.Model that is built (give it a keras.Input); it returned {found}"
        )
    return model


def names_of(model: Any) -> dict[str, Any]:
    """Return the model's variables by canonical name: `layer.weight`. Raises ValueError if a name is taken twice."""
    found: dict[str, Any] = {}
    for variable in model.weights:
        *layers, last = variable.path.removeprefix(f"{model.name}/").split("/")
        name = ".".join([*layers, _NAMES.get(last, last)])
        if name in found:
            raise ValueError(f"two weights have the name {name}: rename one, or its layer")
        found[name] = variable
    return found


def own(variable: Any, array: Array) -> Array:
    """Convert a canonical array to the layout of Keras."""
    return layout.to_channels_last(array) if _is_kernel(variable) else array


def canonical(variable: Any, array: Array) -> Array:
    """Convert an array from the layout of Keras to the canonical one."""
    return layout.to_canonical(array) if _is_kernel(variable) else array


def _is_kernel(variable: Any) -> bool:
    return variable.path.rpartition("/")[2] == "kernel" and len(variable.shape) in (2, 4)


def freeze(model: Any, names: Mapping[str, Any], is_frozen: Callable[[str], bool]) -> None:
    """Freeze the layers all of whose weights are frozen: their batch norm uses its statistics and keeps them."""
    frozen = {variable.path for name, variable in names.items() if is_frozen(name)}
    for layer in _layers(model):
        if layer.weights and all(variable.path in frozen for variable in layer.weights):
            layer.trainable = False


def _layers(model: Any) -> Iterator[Any]:
    yield from model._flatten_layers(include_self=False, recursive=True)


class RandomStates:
    """The states of the generators that layers such as dropout draw from."""

    def __init__(self, model: Any) -> None:
        self.variables = [one for one in model.variables if one.path.endswith("seed_generator_state")]

    def keys(self, seed: int, purpose: str, step: int) -> Array:
        """Return the states [generators, 2] for one purpose at one step."""
        keys = [[rng_seed(seed, f"{purpose}{i}", step) & 0xFFFFFFFF, 0] for i in range(len(self.variables))]
        return np.array(keys, np.uint32).reshape(-1, 2)

    def set(self, keys: Any) -> None:
        """Set the states, inside a graph."""
        for i, variable in enumerate(self.variables):
            variable.assign(keras.ops.cast(keys[i], variable.dtype))


class OtherVariables:
    """Variables of a model that are no floating-point weights: counters, tables."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = dict(variables)
        self._new = {name: support.to_numpy(variable.value) for name, variable in self._variables.items()}

    def changed(self) -> dict[str, Array]:
        """Return those that training has changed."""
        now = {name: support.to_numpy(variable.value) for name, variable in self._variables.items()}
        return {name: array for name, array in now.items() if not np.array_equal(array, self._new[name])}

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Restore them; those that are not given are as in a new model."""
        for name, variable in self._variables.items():
            variable.assign({**self._new, **arrays}[name])
