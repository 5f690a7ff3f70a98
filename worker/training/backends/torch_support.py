"""Shared parts of the torch learners: device, precision, optimizer and non-finite loss guard."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nightshift.families.learner import Array
from nightshift.families.optimizers import constants_of
from nightshift.families.training import Training
from shared.errors import UnsupportedJob
from worker.training.numerics.named_arrays import strip_prefix
from worker.training.numerics.precision import choose

# -- the machine ----------------------------------------------------------------------------------


def use_threads(threads: int | None) -> None:
    """Set the number of CPU threads, which is part of a run's identity: sums are split by it."""
    if threads is not None and threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def forbid_tf32() -> None:
    """Let float32 be float32 on a GPU, too: torch would compute convolutions and recurrent layers in TensorFloat-32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def torch_device(device: str) -> torch.device:
    """Return torch's device. Raises UnsupportedJob if there is no GPU."""
    if device == "gpu" and not torch.cuda.is_available():
        raise UnsupportedJob("this worker was given a GPU, but torch sees none")
    return torch.device("cuda", 0) if device == "gpu" else torch.device("cpu")


def native_bfloat16(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported()) or bool(torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """Return a factory of autocast contexts for the precision."""
    if choose(precision, native_bfloat16(device)) == "float32":
        return nullcontext
    return partial(torch.autocast, device.type, torch.bfloat16)


def versions() -> dict[str, Any]:
    """Return the number of threads and the library versions of the run."""
    return {"threads": torch.get_num_threads(), "versions": {"torch": torch.__version__, "numpy": np.__version__}}


# -- arrays ---------------------------------------------------------------------------------------


#: Share of the device's free memory that training arrays may take; larger sets are copied batch by batch.
RESIDENT_SHARE = 0.5


def move_to_device(arrays: Mapping[str, Array], device: torch.device) -> dict[str, Tensor]:
    """Return the arrays as tensors, on the device if they fit into `RESIDENT_SHARE` of its free memory."""
    tensors = {name: torch.from_numpy(_writable(array)) for name, array in arrays.items()}
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if sum(tensor.nbytes for tensor in tensors.values()) <= RESIDENT_SHARE * free:
            return {name: tensor.to(device) for name, tensor in tensors.items()}
    return tensors


def select(data: Mapping[str, Tensor], rows: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """Return the rows of each array, on the device. Copies from pinned memory overlap with computation."""
    return tuple(_select(tensor, rows, device) for tensor in data.values())


def _select(tensor: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    if tensor.device.type == "cuda":
        return tensor.index_select(0, rows.pin_memory().to(device, non_blocking=True))
    batch = tensor.index_select(0, rows)
    return batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch


def send(array: Array, device: torch.device) -> Tensor:
    """Copy an array that nothing changes to the device, without a sync."""
    host = torch.from_numpy(array)
    if device.type != "cuda":
        return host
    return host.contiguous().pin_memory().to(device, non_blocking=True)  # with gaps it would go by pageable memory


def to_device(array: Array, device: torch.device) -> Tensor:
    """Copy an array, which may be read-only, to the device, without a sync."""
    return send(_writable(array), device)


def sent(batches: Iterable[Array], device: torch.device) -> Iterator[Tensor]:
    """Yield batches on the device. A GPU goes on with the one before while the next is copied."""
    for batch in batches:
        yield _sent_aside(batch, device) if device.type == "cuda" else to_device(batch, device)


def _sent_aside(batch: Array, device: torch.device) -> Tensor:
    computing, copying = torch.cuda.current_stream(device), copying_stream(device)
    with torch.cuda.stream(copying):
        tensor = to_device(batch, device)
    computing.wait_stream(copying)
    tensor.record_stream(computing)  # its memory belongs to the other stream, which would use it again too early
    return tensor


@cache
def copying_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the only stream that copies beside computation: torch keeps memory for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def fetch(tensor: Tensor) -> Callable[[], Array]:
    """Begin to copy a tensor to the host, and return what waits for the copy."""
    if on_host(tensor):
        return tensor.numpy
    host = torch.empty_like(tensor, device="cpu", pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    copied = torch.cuda.current_stream(tensor.device).record_event()

    def wait() -> Array:
        copied.synchronize()
        found: Array = host.numpy()
        return found

    return wait


def _writable(array: Array) -> Array:
    """Return a writable array, copying if necessary, because torch requires one.

    A private mapping (mode `c`) is writable.
    """
    if array.flags.writeable and array.flags.c_contiguous:
        return array
    return np.array(array, order="C")


def to_numpy(tensor: Tensor) -> Array:
    """Return a copy in canonical (row-major) layout that later steps do not change."""
    host = tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
    found: Array = host.numpy()
    return found


def on_host(tensor: Tensor) -> bool:
    """Return whether a value of the tensor can be read without waiting for a device."""
    return tensor.device.type == "cpu"


@torch.no_grad()
def assign(tensor: Tensor, name: str, arrays: Mapping[str, Array]) -> None:
    """Copy the named array into the tensor, keeping the tensor's memory layout.

    Raises KeyError if the array is missing, ValueError if its shape differs.
    """
    array = arrays[name]
    if tuple(array.shape) != tuple(tensor.shape):
        raise ValueError(f"{name} has shape {tuple(array.shape)}, the model needs {tuple(tensor.shape)}")
    tensor.copy_(torch.from_numpy(np.array(array, order="C")))


def box_mask(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return a bool mask [n, 1, height, width] of each image's rectangle (top, bottom, left, right).

    Ends are exclusive.
    """
    top, bottom, left, right = boxes[:, :, None].unbind(1)
    y, x = torch.arange(height, device=boxes.device), torch.arange(width, device=boxes.device)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


# -- the optimizer --------------------------------------------------------------------------------
#
# `adamw` has decoupled weight decay (Loshchilov & Hutter 2019); every other optimizer adds `weight_decay * weight` to
# the gradient. Constants are those of nightshift.families.optimizers.


def _sgd(weights: list[Tensor], *, momentum: float, nesterov: bool, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, momentum=momentum, nesterov=nesterov and momentum > 0, fused=True, **more)


def _adam(
    kind: Callable[..., torch.optim.Optimizer],
    weights: list[Tensor],
    *,
    beta1: float,
    beta2: float,
    epsilon: float,
    **more: Any,
) -> torch.optim.Optimizer:
    return kind(weights, betas=(beta1, beta2), eps=epsilon, fused=True, **more)


def _rmsprop(weights: list[Tensor], *, rho: float, epsilon: float, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(weights, alpha=rho, eps=epsilon, **more)


def _adadelta(weights: list[Tensor], *, rho: float, epsilon: float, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.Adadelta(weights, rho=rho, eps=epsilon, **more)


_MAKERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adam": partial(_adam, torch.optim.Adam),
    "adamw": partial(_adam, torch.optim.AdamW),
    "rmsprop": _rmsprop,
    "adadelta": _adadelta,
}


def make_optimizer(training: Training, weights: Mapping[str, Tensor]) -> torch.optim.Optimizer:
    """Return the optimizer of a training for these weights."""
    return _MAKERS[training.optimizer](
        list(weights.values()),
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        **constants_of(training),
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> float:
    """Set and return the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def slots(optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor]) -> dict[str, Array]:
    """Return copies of the optimizer's state as `<weight>/<slot>`."""
    return {
        f"{name}/{slot}": to_numpy(value)
        for name, weight in weights.items()
        for slot, value in optimizer.state.get(weight, {}).items()
        if isinstance(value, Tensor)
    }


def load_slots(optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor], arrays: Mapping[str, Array]) -> None:
    """Replace the optimizer's state by arrays named `<weight>/<slot>`."""
    optimizer.state.clear()
    for name, weight in weights.items():
        for slot, array in strip_prefix(arrays, f"{name}/").items():
            value = torch.from_numpy(np.array(array, order="C"))
            if slot != "step":  # in the weight's layout: fused kernels go through the memory of both side by side
                value = torch.empty_like(weight, requires_grad=False).copy_(value)
            elif optimizer.defaults.get("fused"):
                value = value.to(weight.device)
            optimizer.state[weight][slot] = value


class FiniteLossGuard:
    """Blocks all steps after a non-finite loss: the weights stay those of the last finite step.

    The loss is looked at where that costs nothing, on a CPU. On a device, fused optimizers skip the step by themselves
    (`found_inf`, as gradient scaling uses it); what the others have changed is taken back. Neither waits.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.optimizer = optimizer
        self.bad = torch.zeros((), dtype=torch.bool, device=device)
        self.fused = bool(optimizer.defaults.get("fused"))

    def step(self, loss: Tensor) -> None:
        """Run the optimizer unless a loss was not finite."""
        if on_host(self.bad):
            self._step_on_host(loss)
            return
        self.bad |= ~torch.isfinite(loss.detach())
        if self.fused:
            self.optimizer.grad_scale, self.optimizer.found_inf = None, self.bad.float()  # type: ignore[attr-defined]
            self.optimizer.step()
        else:
            self._step_or_take_back()

    def _step_on_host(self, loss: Tensor) -> None:
        if not math.isfinite(loss.item()):
            self.bad.fill_(True)
        if not self.bad.item():
            self.optimizer.step()

    @torch.no_grad()
    def _step_or_take_back(self) -> None:
        before = {tensor: tensor.clone() for tensor in self._changing()}
        self.optimizer.step()
        for tensor in self._changing():
            old = before[tensor] if tensor in before else torch.zeros_like(tensor)  # a slot's first value is 0
            torch.where(self.bad, old, tensor, out=tensor)

    def _changing(self) -> list[Tensor]:
        """Return what a step changes on the device: weights and slots."""
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        slots = [value for state in self.optimizer.state.values() for value in state.values()]
        return weights + [slot for slot in slots if isinstance(slot, Tensor) and slot.device == self.bad.device]
