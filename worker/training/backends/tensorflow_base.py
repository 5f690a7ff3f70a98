"""What the TensorFlow learners share: where weights lie, which of them learn, and what is kept of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from shared.specs.training import Training
from worker.training.backends import tensorflow_support as support
from worker.training.learner import Array, LearnerState
from worker.training.numerics.optim import learning_rate

#: Part of the names of weights that are counted, not learned.
RUNNING = ".running_"


class TensorflowLearner:
    """A family calls `_begin` with its first weights; `networks` are the prefixes of the weights that have an optimizer
    of their own ("": all in one). Where TensorFlow wants another layout, `_own` and `_canonical` change it."""

    def __init__(self, model: Any, training: Training, total_steps: int, device: str, facts: Mapping[str, Any]) -> None:
        self.model, self.training, self.total_steps = model, training, total_steps
        self.device = support.tensorflow_device(device)
        self.frozen = tuple(facts.get("frozen", ()))

    def _begin(self, weights: Mapping[str, Array], totals: int, networks: tuple[str, ...] = ("",)) -> None:
        """`totals`: how many sums are kept on the device between two readings of the metrics."""
        with tf.device(self.device):
            self.tensors = {name: self._place(name, array) for name, array in weights.items()}
            self.optimizers = {part: support.Optimizer(self.training, self._trained(part)) for part in networks}
            self.guard = support.FiniteLossGuard()  # one loss that is not finite stops all
            self.totals = tf.Variable(tf.zeros(totals, tf.float64), trainable=False)
        self.rate = learning_rate(self.training, 0, self.total_steps)

    # -- state ------------------------------------------------------------------------------------

    def state(self) -> LearnerState:
        arrays = {f"weights/{name}": array for name, array in self.weights().items()}
        for part, optimizer in self.optimizers.items():
            kept = optimizer.state()
            arrays[f"count/{part}"] = kept.pop("count")
            arrays |= {f"optimizer/{name}": array for name, array in kept.items()}
        arrays |= {"totals": support.to_numpy(self.totals), "bad": support.to_numpy(self.guard.bad)}
        return LearnerState(arrays, {"rate": self.rate, **support.versions()})

    def load_state(self, state: LearnerState) -> None:
        self.load_weights(support.strip_prefix(state.arrays, "weights/"))
        kept = support.strip_prefix(state.arrays, "optimizer/")
        for part, optimizer in self.optimizers.items():
            optimizer.load_state({**kept, "count": state.arrays[f"count/{part}"]})
        self.totals.assign(np.asarray(state.arrays["totals"]))
        self.guard.bad.assign(bool(np.asarray(state.arrays["bad"])))
        self.rate = float(state.facts["rate"])

    def weights(self) -> dict[str, Array]:
        return {name: self._canonical(name, support.to_numpy(tensor)) for name, tensor in self.tensors.items()}

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        own = {name: self._own(name, array) for name, array in weights.items()}
        for name, tensor in self.tensors.items():
            support.assign(tensor, name, own)

    def _trained(self, part: str = "") -> dict[str, Any]:
        """The weights below `part` that learn."""
        return {name: t for name, t in self.tensors.items() if t.trainable and name.startswith(part)}

    def _is_frozen(self, name: str) -> bool:
        return bool(self.frozen) and name.startswith(self.frozen)

    def _place(self, name: str, array: Array) -> Any:
        learns = not (RUNNING in name or self._is_frozen(name))
        return tf.Variable(self._own(name, array), trainable=learns, dtype=tf.float32)

    def _own(self, name: str, array: Array) -> Array:
        """A canonical array in TensorFlow's layout."""
        return array

    def _canonical(self, name: str, array: Array) -> Array:
        """And back."""
        return array
