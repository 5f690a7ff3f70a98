"""Base class of the TensorFlow learners: weights, optimizers and state of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from worker.training.backends import tensorflow_support as support
from worker.training.learner import Array, LearnerSetup, LearnerState
from worker.training.numerics.optim import learning_rate

#: Part of the names of running statistics, which are not trained.
RUNNING = ".running_"


class TensorflowLearner:
    """Base of the TensorFlow learners. A family calls `_begin` with its initial weights.

    `networks` are the prefixes of weights with an optimizer of their own ("": one for all). A family whose TensorFlow
    layout differs from the canonical one overrides `_own` and `_canonical`.
    """

    def __init__(self, setup: LearnerSetup) -> None:
        support.use_threads(setup.threads)
        self.model, self.training, self.total_steps = setup.model, setup.training, setup.total_steps
        self.device = support.tensorflow_device(setup.device)
        self.frozen = tuple(setup.facts.get("frozen", ()))

    def _begin(self, weights: Mapping[str, Array], totals: int, networks: tuple[str, ...] = ("",)) -> None:
        """Create variables and optimizers, and `totals` sums on the device for the metrics."""
        with tf.device(self.device):
            self.tensors = {name: self._place(name, array) for name, array in weights.items()}
            self.optimizers = {part: support.Optimizer(self.training, self._trained(part)) for part in networks}
            self.guard = support.FiniteLossGuard()  # one non-finite loss stops all networks
            self.totals = tf.Variable(tf.zeros(totals, tf.float64), trainable=False)
        self.rate = learning_rate(self.training, 0, self.total_steps)

    # -- state ------------------------------------------------------------------------------------

    def state(self) -> LearnerState:
        arrays = {f"weights/{name}": array for name, array in self.weights().items()}
        for part, optimizer in self.optimizers.items():
            slots = optimizer.state()
            arrays[f"count/{part}"] = slots.pop("count")
            arrays |= {f"optimizer/{name}": array for name, array in slots.items()}
        arrays |= {"totals": support.to_numpy(self.totals), "bad": support.to_numpy(self.guard.bad)}
        return LearnerState(arrays, {"rate": self.rate, **support.versions()})

    def load_state(self, state: LearnerState) -> None:
        self.load_weights(support.strip_prefix(state.arrays, "weights/"))
        slots = support.strip_prefix(state.arrays, "optimizer/")
        for part, optimizer in self.optimizers.items():
            optimizer.load_state({**slots, "count": state.arrays[f"count/{part}"]})
        self.totals.assign(np.asarray(state.arrays["totals"]))
        self.guard.bad.assign(bool(np.asarray(state.arrays["bad"])))
        self.rate = float(state.facts["rate"])

    def weights(self) -> dict[str, Array]:
        return {name: self._canonical(name, support.to_numpy(tensor)) for name, tensor in self.tensors.items()}

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        native = {name: self._own(name, array) for name, array in weights.items()}
        for name, tensor in self.tensors.items():
            support.assign(tensor, name, native)

    def _trained(self, part: str = "") -> dict[str, Any]:
        """Return the trainable weights whose names start with `part`."""
        return {name: t for name, t in self.tensors.items() if t.trainable and name.startswith(part)}

    def _is_frozen(self, name: str) -> bool:
        return bool(self.frozen) and name.startswith(self.frozen)

    def _place(self, name: str, array: Array) -> Any:
        learns = not (RUNNING in name or self._is_frozen(name))
        return tf.Variable(self._own(name, array), trainable=learns, dtype=tf.float32)

    def _own(self, name: str, array: Array) -> Array:
        """Convert a canonical array to TensorFlow's layout."""
        return array

    def _canonical(self, name: str, array: Array) -> Array:
        """Convert an array from TensorFlow's layout to the canonical one."""
        return array
