"""Base class of the TensorFlow learners: weights, normalization, optimizers and state of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from nightshift.families.learner import Array, LearnerSetup, LearnerState
from worker.training.backends import tensorflow_gang
from worker.training.backends import tensorflow_support as support
from worker.training.backends.base_learner import BaseLearner
from worker.training.gang import Rows, slices, with_own_draws
from worker.training.numerics.named_arrays import strip_prefix
from worker.training.numerics.norms import NORM_EPS, NORM_MOMENTUM

Tensor = Any
#: Batch norm's statistics: a mapping whose values are replaced by new ones (training); None means evaluation.
Running = dict[str, Tensor] | None

_fused_batch_norm = tf.compat.v1.nn.fused_batch_norm


class TensorflowLearner(BaseLearner):
    """Base of the TensorFlow learners. A family calls `_begin` with its initial weights.

    A family writes `_step`, a graph, and `_arguments`, which a gang calls for each of its devices. `networks` are the
    prefixes of weights with an optimizer of their own ("": one for all). A family whose TensorFlow layout differs from
    the canonical one overrides `_own` and `_canonical`.
    """

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.gang = tensorflow_gang.current()
        support.use_threads(setup.threads, self.gang.size if self.gang else 1)
        support.forbid_tf32()
        self.device = support.tensorflow_device(setup.device)

    def _begin(self, weights: Mapping[str, Array], networks: tuple[str, ...] = ("",)) -> None:
        """Create variables and optimizers, and the sums for the metrics."""
        with self._placement():
            tensors = {name: self._place(name, array) for name, array in weights.items()}
        self._optimize(tensors, networks)

    def _optimize(self, tensors: Mapping[str, Any], networks: tuple[str, ...] = ("",)) -> None:
        """Create the optimizers of variables, and the sums for the metrics."""
        self.tensors = tensors
        with self._placement():
            self.optimizers = {part: support.Optimizer(self.training, self._trained(part)) for part in networks}
            self.guard = support.FiniteLossGuard()  # one non-finite loss stops all networks
            zeros = tf.zeros(len(self.MEASURED) + 1, tf.float64)
            self.totals = tf.Variable(zeros, trainable=False, aggregation=tf.VariableAggregation.SUM)

    def _placement(self) -> AbstractContextManager[Any]:
        """Create variables in the block on the device, or on all those of the gang."""
        placement: AbstractContextManager[Any] = self.gang.scope() if self.gang else tf.device(self.device)
        return placement

    # -- the step ---------------------------------------------------------------------------------

    @cached_property
    def _train(self) -> Any:
        """The graph of a step, by `_graph_of_step`."""
        raise NotImplementedError

    def train_step(self, rows: Rows, step: int) -> None:
        self.rate = self.rate_at(step)
        with tf.device(self.device):
            if self.gang is None:
                self._train(*self._arguments(rows, step))
                return
            parts = slices(rows, self.gang.size)
            computed = [part if len(part) else rows[:1] for part in parts]  # one that counts nothing
            arguments = [self._arguments_of(rank, part, step) for rank, part in enumerate(computed)]
            self._train(arguments, [np.float32(len(part) / len(rows)) for part in parts])

    def _arguments(self, rows: Rows, step: int) -> tuple[Any, ...]:
        """Return the arguments of `_step` for these rows."""
        raise NotImplementedError

    def _arguments_of(self, rank: int, rows: Rows, step: int) -> tuple[Any, ...]:
        """Return the arguments of `_step` for a device of the gang, which has random numbers of its own."""
        shared, self.training = self.training, with_own_draws(self.training, rank)
        try:
            return self._arguments(rows, step)
        finally:
            self.training = shared

    def _step(self, *arguments: Any) -> Any:
        """Run a step in a graph, on one device."""
        raise NotImplementedError

    def _graph_of_step(self, *specs: Any) -> Any:
        """Return the graph of a step for arguments of these specs."""
        if self.gang is None:
            return support.compiled(self._step, specs)
        share = tf.TensorSpec([], tf.float32)
        return support.compiled(self._whole_step, [[specs] * self.gang.size, [share] * self.gang.size])

    @property
    def _whole_step(self) -> Callable[..., Any]:
        """Return the step on the device, or on all those of the gang."""
        return self.gang.replicated(self._step) if self.gang else self._step

    def _learn(
        self, part: str, loss: Tensor, gradients: Sequence[Tensor], rate: Tensor, running: Running = None
    ) -> None:
        """Run one step of one network and keep batch norm's statistics, unless a loss was not finite.

        On a GPU a condition would wait for the loss: there a step after a bad loss runs and changes nothing. So it does
        in a gang, whose mirrored weights cannot be updated within a condition.
        """
        if self.gang is not None:
            loss, gradients = self.gang.average(loss, gradients)
        ok = self.guard.ok(loss)
        if self.gang is not None or not support.on_host(self.device):
            self.optimizers[part].step(gradients, rate, ok)
            for name, value in (running or {}).items():
                self.tensors[name].assign(tf.where(ok, value, self.tensors[name]))
            return

        def update() -> Tensor:
            self.optimizers[part].step(gradients, rate)
            for name, value in (running or {}).items():
                self.tensors[name].assign(value)
            return tf.constant(True)

        tf.cond(ok, update, lambda: tf.constant(False))

    def _add(self, sums: Tensor) -> None:
        """Add a step's sums to the totals."""
        self.totals.assign_add(sums if self.gang is None else self.gang.counted(sums))

    def _take_totals(self) -> list[float]:
        totals: list[float] = self.totals.numpy().tolist()
        self.totals.assign(tf.zeros_like(self.totals))
        return totals

    # -- the network ------------------------------------------------------------------------------

    def _norm(self, x: Tensor, name: str, running: Running) -> Tensor:
        """Apply the normalization whose weights have this name, if there are any."""
        if f"{name}.running_var" in self.tensors:
            return self._batch_norm(x, name, running)
        if f"{name}.weight" not in self.tensors:
            return x
        y = tf.cast(x, tf.float32)
        mean, var = tf.nn.moments(y, list(range(1, len(x.shape))), keepdims=True)
        y = (y - mean) * tf.math.rsqrt(var + NORM_EPS)
        return tf.cast(y * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"], x.dtype)

    def _batch_norm(self, x: Tensor, name: str, running: Running) -> Tensor:
        """Apply fused batch norm; a dense layer's units are treated as maps of one pixel."""
        if len(x.shape) == 2:
            return self._batch_norm(x[:, None, None, :], name, running)[:, 0, 0, :]
        scale, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        names = (f"{name}.running_mean", f"{name}.running_var")
        if running is None or self._is_frozen(name):
            mean, var = (self.tensors[stat] for stat in names)
            return _fused_batch_norm(x, scale, bias, mean, var, NORM_EPS, is_training=False)[0]
        y, *found = _fused_batch_norm(x, scale, bias, epsilon=NORM_EPS, is_training=True)
        for stat, value in zip(names, found, strict=True):  # the variance it returns is the unbiased one
            running[stat] = running.get(stat, self.tensors[stat]) * (1 - NORM_MOMENTUM) + value * NORM_MOMENTUM
        return y

    def _in_batches(self, graph: Callable[[Array], Tensor], inputs: Array, batch_size: int) -> list[Array]:
        """Return the outputs of a graph for all inputs."""
        with tf.device(self.device):
            begun = (graph(inputs[at : at + batch_size]).numpy for at in range(0, len(inputs), batch_size))
            return [fetch() for fetch in self._late(begun)]

    # -- state ------------------------------------------------------------------------------------

    def state(self) -> LearnerState:
        arrays = {f"weights/{name}": array for name, array in self.weights().items()}
        for part, optimizer in self.optimizers.items():
            slots = optimizer.state()
            arrays[f"count/{part}"] = slots.pop("count")
            arrays |= {f"optimizer/{name}": array for name, array in slots.items()}
        totals = self.gang.totals_state(self.totals) if self.gang else {"totals": support.to_numpy(self.totals)}
        arrays |= {**totals, "bad": support.to_numpy(self.guard.bad)}
        size = {"devices": self.gang.size} if self.gang else {}
        return LearnerState(arrays, {"rate": self.rate, **size, **support.versions()})

    def load_state(self, state: LearnerState) -> None:
        self.load_weights(strip_prefix(state.arrays, "weights/"))
        slots = strip_prefix(state.arrays, "optimizer/")
        for part, optimizer in self.optimizers.items():
            optimizer.load_state({**slots, "count": state.arrays[f"count/{part}"]})
        if self.gang:
            self.gang.load_totals(self.totals, state.arrays)
        else:
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

    def _place(self, name: str, array: Array) -> Any:
        return tf.Variable(self._own(name, array), trainable=self._learns(name), dtype=tf.float32)

    def _own(self, name: str, array: Array) -> Array:
        """Convert a canonical array to TensorFlow's layout."""
        return array

    def _canonical(self, name: str, array: Array) -> Array:
        """Convert an array from TensorFlow's layout to the canonical one."""
        return array
