"""Shared parts of the TensorFlow learners: device, precision, optimizer and non-finite loss guard.

The twin of `torch_support.py`. Optimizers are written out over TensorFlow's update kernels, because Keras's optimizers
define epsilon, weight decay and momentum differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from nightshift.families.learner import Array
from nightshift.families.optimizers import constants_of
from nightshift.families.training import Training
from shared.errors import UnsupportedJob
from worker.training.numerics.precision import choose

Tensor = Any

# -- the machine ----------------------------------------------------------------------------------


def use_threads(threads: int | None, replicas: int = 1) -> None:
    """Set the number of CPU threads of each replica, which is part of a run's identity.

    TensorFlow accepts it only before its first operation. Raises UnsupportedJob if it is too late.
    """
    if threads is None or threads == tf.config.threading.get_intra_op_parallelism_threads():
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(replicas)
    except RuntimeError as error:
        raise UnsupportedJob(f"this process already runs TensorFlow with other than {threads} threads") from error


def tensorflow_device(device: str) -> str:
    """Return TensorFlow's name of the device, and configure it.

    GPU memory grows as needed; operations on a CPU become deterministic. Raises UnsupportedJob if there is no GPU.
    """
    if device == "cpu":
        tf.config.experimental.enable_op_determinism()
        return "/cpu:0"
    found = tf.config.list_physical_devices("GPU")
    if not found:
        raise UnsupportedJob("this worker was given a GPU, but TensorFlow sees none")
    for gpu in found:
        if not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, True)
    return "/gpu:0"


def forbid_tf32() -> None:
    """Let float32 be float32 on a GPU, too: TensorFlow would compute all products in TensorFloat-32."""
    tf.config.experimental.enable_tensor_float_32_execution(False)


def on_host(device: str) -> bool:
    """Return whether a device is the CPU, where reading a value waits for nothing."""
    return device == "/cpu:0"


def compiled(function: Callable[..., Any], signature: Sequence[Any]) -> Any:
    """Return a `tf.function` without AutoGraph.

    AutoGraph would rewrite every function first, which takes seconds before the first step and leaves a temporary file
    for each function.
    """
    return tf.function(function, input_signature=signature, autograph=False)


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def native_bfloat16(device: str) -> bool:
    """Return whether the device computes in bfloat16 natively."""
    if device == "/gpu:0":
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        return tuple(details.get("compute_capability", (0, 0))) >= (8, 0)
    return bool({"avx512_bf16", "amx_bf16"} & _cpu_flags())


def computed(device: str, precision: str) -> Any:
    """Return the dtype of products; weights, optimizer state and loss are float32."""
    return tf.bfloat16 if choose(precision, native_bfloat16(device)) == "bfloat16" else tf.float32


def versions() -> dict[str, Any]:
    """Return the number of threads and the library versions of the run."""
    threads = tf.config.threading.get_intra_op_parallelism_threads() or None
    return {"threads": threads, "versions": {"tensorflow": tf.__version__, "numpy": np.__version__}}


# -- arrays ---------------------------------------------------------------------------------------


def to_numpy(variable: Any) -> Array:
    """Return a copy that later steps do not change."""
    return np.asarray(variable.numpy(), order="C")  # `numpy` copies


def assign(variable: Any, name: str, arrays: Mapping[str, Array]) -> None:
    """Assign the named array. Raises KeyError if it is missing, ValueError if its shape differs."""
    array = arrays[name]
    if tuple(array.shape) != tuple(variable.shape):
        raise ValueError(f"{name} has shape {tuple(array.shape)}, the model needs {tuple(variable.shape)}")
    variable.assign(np.asarray(array))


def within(lengths: Tensor, x: Tensor, dtype: Any = tf.bool) -> Tensor:
    """Return where rows of these lengths (int64) in x [time, batch, …] have a token: [batch, time].

    TensorFlow compares int32 on the host, which would wait for the lengths.
    """
    return tf.sequence_mask(lengths, tf.shape(x, tf.int64)[0], dtype)


# -- the optimizer --------------------------------------------------------------------------------

_SLOTS = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg",),
    "adadelta": ("square_avg", "acc_delta"),
}


@dataclass(frozen=True)
class _Step:
    """The scalars of one step. `ok`: whether it may change anything; None: it may."""

    ok: Tensor | None
    rate: Tensor
    number: Tensor

    def kept(self, share: float) -> Any:
        """Return the share of its old value that a slot keeps: all of it if the step may change nothing."""
        return share if self.ok is None else tf.where(self.ok, share, 1.0)


class Optimizer:
    """The update rules of torch's optimizers. `step` runs inside a graph.

    `adamw` has decoupled weight decay (Loshchilov & Hutter 2019); every other optimizer adds `weight_decay * weight` to
    the gradient. Constants are those of nightshift.families.optimizers.
    """

    def __init__(self, training: Training, weights: Mapping[str, Any]) -> None:
        self.name, self.decay = training.optimizer, training.weight_decay
        self.clip, self.constants = training.grad_clip, constants_of(training)
        self.weights = dict(weights)
        self.count = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.slots = {
            name: {slot: tf.Variable(tf.zeros_like(weight), trainable=False) for slot in self._slot_names()}
            for name, weight in self.weights.items()
        }

    def _slot_names(self) -> tuple[str, ...]:
        return () if self.constants.get("momentum") == 0 else _SLOTS[self.name]

    def step(self, gradients: Sequence[Tensor], rate: Tensor, ok: Tensor | None = None) -> None:
        """Update the weights. `gradients` are in the order of `weights`, `rate` is a float32 scalar.

        If the scalar `ok` is false, weights and slots keep their values, bit for bit, without a condition.
        """
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if self.clip is not None:
            norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in dense]))
            dense = [gradient * tf.minimum(1.0, self.clip / (norm + 1e-6)) for gradient in dense]
        one = _Step(ok, rate if ok is None else tf.where(ok, rate, 0.0), self._counted(ok))
        update = getattr(self, f"_{self.name}")
        for (name, weight), gradient in zip(self.weights.items(), dense, strict=True):
            if self.decay and self.name != "adamw":
                gradient += self.decay * weight
            gradient = gradient if ok is None else tf.where(ok, gradient, 0.0)  # times 0 would leave what is no number
            update(weight, self.slots[name], gradient, one)

    def _counted(self, ok: Tensor | None) -> Tensor:
        """Count the step if it is one, and return its number as float32, from 1."""
        if ok is None:
            return tf.cast(self.count.assign_add(1), tf.float32)
        number = tf.cast(self.count + 1, tf.float32)
        self.count.assign_add(tf.cast(ok, tf.int64))
        return number

    def _sgd(self, weight: Any, slots: Mapping[str, Any], gradient: Tensor, step: _Step) -> None:
        if not slots:
            weight.assign_sub(step.rate * gradient)
            return
        tf.raw_ops.ResourceApplyMomentum(
            var=weight.handle, accum=slots["momentum_buffer"].handle, lr=step.rate, grad=gradient,
            momentum=step.kept(self.constants["momentum"]), use_nesterov=self.constants["nesterov"],
        )  # fmt: skip

    def _adam(self, weight: Any, slots: Mapping[str, Any], gradient: Tensor, step: _Step) -> None:
        """Correct epsilon: the kernel adds it before the second moment's bias correction, torch after it."""
        beta1, beta2 = self.constants["beta1"], self.constants["beta2"]
        power1, power2 = tf.pow(beta1, step.number), tf.pow(beta2, step.number)
        epsilon = self.constants["epsilon"] * tf.sqrt(1 - power2)
        tf.raw_ops.ResourceApplyAdam(
            var=weight.handle, m=slots["exp_avg"].handle, v=slots["exp_avg_sq"].handle, beta1_power=power1,
            beta2_power=power2, lr=step.rate, beta1=step.kept(beta1), beta2=step.kept(beta2), epsilon=epsilon,
            grad=gradient,
        )  # fmt: skip

    def _adamw(self, weight: Any, slots: Mapping[str, Any], gradient: Tensor, step: _Step) -> None:
        if self.decay:
            weight.assign(weight * (1 - step.rate * self.decay))
        self._adam(weight, slots, gradient, step)

    def _rmsprop(self, weight: Any, slots: Mapping[str, Any], gradient: Tensor, step: _Step) -> None:
        rho, mean = self.constants["rho"], slots["square_avg"]
        mean.assign(step.kept(rho) * mean + (1 - rho) * tf.square(gradient))
        weight.assign_sub(step.rate * gradient / (tf.sqrt(mean) + self.constants["epsilon"]))

    def _adadelta(self, weight: Any, slots: Mapping[str, Any], gradient: Tensor, step: _Step) -> None:
        tf.raw_ops.ResourceApplyAdadelta(
            var=weight.handle, accum=slots["square_avg"].handle, accum_update=slots["acc_delta"].handle,
            lr=step.rate, rho=step.kept(self.constants["rho"]), epsilon=self.constants["epsilon"], grad=gradient,
        )  # fmt: skip

    def state(self) -> dict[str, Array]:
        """Return copies of the slots as `<weight>/<slot>` and of the step count."""
        arrays = {f"{name}/{slot}": to_numpy(v) for name, slots in self.slots.items() for slot, v in slots.items()}
        return arrays | {"count": to_numpy(self.count)}

    def load_state(self, arrays: Mapping[str, Array]) -> None:
        """Restore slots and step count."""
        self.count.assign(int(np.asarray(arrays["count"]).item()))
        for name, slots in self.slots.items():
            for slot, variable in slots.items():
                assign(variable, f"{name}/{slot}", arrays)


class FiniteLossGuard:
    """Blocks all steps after a non-finite loss: the weights stay those of the last finite step."""

    def __init__(self) -> None:
        self.bad = tf.Variable(False, trainable=False)

    def ok(self, loss: Tensor) -> Tensor:
        """Return, inside a graph, whether the step may change the weights."""
        return tf.logical_not(self.bad.assign(tf.logical_or(self.bad, tf.logical_not(tf.math.is_finite(loss)))))
