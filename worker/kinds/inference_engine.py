"""The engine of batch inference: the model's framework, or ONNX Runtime where it agrees and is faster.

Both compute the first batches of the job. The decision holds for the whole job, also after a resume, because two
engines differ in the last bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from nightshift.families.learner import Array, Learner
from nightshift.versions import installed_of
from shared.errors import EngineDisagrees, UnsupportedJob
from shared.job_files.artifact_files import ONNX
from shared.specs.jobs import Inference
from worker.kinds.base_model import TrainedModel
from worker.onnx_models.export import CannotExport, exported
from worker.onnx_models.runtime import OnnxNetwork

FRAMEWORK, ONNX_RUNTIME = "framework", "onnxruntime"
#: Largest difference of outputs, relative to those above 1. Too low: rounding counts. Too high: other predictions.
TOLERANCE = 1e-4
#: Least ratio of speeds for another engine than the framework. Too low: noise decides.
FASTER = 1.1
#: Batches that both engines compute. Too low: the ratio is noise. Too high: short jobs wait.
BATCHES = 4

Log = Callable[[str], None]
#: Returns the engine of all shards of a job, when one of them proposes an engine.
Agree = Callable[[str], str]


class Predicts(Protocol):
    """A learner, or a network of ONNX Runtime."""

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return the outputs for rows."""
        ...


class InferenceEngine(Protocol):
    """What computes the rows of a job."""

    @property
    def name(self) -> str | None:
        """`framework` or `onnxruntime`; None until it is decided."""
        ...

    @property
    def learner(self) -> Learner:
        """The learner to predict with."""
        ...


@dataclass(frozen=True)
class FrameworkEngine:
    """The learner itself."""

    learner: Learner
    name: str = FRAMEWORK


def choose(
    learner: Learner,
    parent: TrainedModel,
    inference: Inference,
    device: str,
    threads: int | None,
    settled: str | None,
    log: Log,
    agree: Agree | None = None,
) -> InferenceEngine:
    """Return the engine of a job. `settled` is the one that computed its first rows, if there are any.

    `agree` is of a shard: all shards have one engine, and where a GPU's worker would have another, its CPU computes.
    Raises UnsupportedJob if `inference.engine` is `onnxruntime` and it cannot be used. A network that disagrees is
    found by the first rows: EngineDisagrees.
    """
    wanted = inference.engine if settled is None else settled
    if wanted == FRAMEWORK or inference.task != "predict":
        return FrameworkEngine(learner)
    try:
        network = _network(parent, "cpu" if agree and settled else device, threads)
    except _Unusable as why:
        if agree is not None and (settled or agree(FRAMEWORK)) != FRAMEWORK:
            return _as_agreed(learner, parent, threads)
        if inference.engine == ONNX_RUNTIME:
            raise UnsupportedJob(
                f"inference.engine: onnxruntime cannot be used here: {why}; use auto or framework"
            ) from why
        log(f"computes with {inference.framework}: {why}")
        return FrameworkEngine(learner)
    if settled is not None:
        log(f"computes with {_runtime()}, as the rows that are done")
        return OnnxEngine(network, learner)
    return MeasuredEngine(network, learner, inference, log, agree or _alone)


def _alone(engine: str) -> str:
    """Agree with nobody."""
    return engine


def _as_agreed(learner: Learner, parent: TrainedModel, threads: int | None) -> InferenceEngine:
    """Return the engine of ONNX Runtime on the CPU. Raises UnsupportedJob."""
    try:
        return OnnxEngine(_network(parent, "cpu", threads), learner)
    except _Unusable as why:
        message = f"other shards compute with ONNX Runtime, which cannot be used here: {why}; set inference.engine"
        raise UnsupportedJob(message) from why


# -- the network ----------------------------------------------------------------------------------


class _Unusable(Exception):
    """ONNX Runtime cannot compute the model here; the message says why."""


def _network(parent: TrainedModel, device: str, threads: int | None) -> OnnxNetwork:
    """Load the file beside the weights, or the network written from them. Raises _Unusable."""
    if device != "cpu":
        raise _Unusable("ONNX Runtime is used on CPUs only")
    path = parent.folder / ONNX
    try:
        return OnnxNetwork(path.read_bytes() if path.exists() else _written(parent), threads)
    except CannotExport as why:
        raise _Unusable(str(why)) from why
    except ImportError as error:
        raise _Unusable(f"the package {error.name} is not installed") from error
    except Exception as error:
        raise _Unusable(f"the model's ONNX network cannot be loaded: {_text(error)}") from error


def _written(parent: TrainedModel) -> bytes:
    return exported(parent.model, parent.weights, parent.facts)


def _text(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _runtime() -> str:
    return f"ONNX Runtime {installed_of(('onnxruntime',)).get('onnxruntime', '')}".strip()


# -- engines of ONNX Runtime ----------------------------------------------------------------------


class OnnxEngine:
    """A learner whose `predict` is computed by ONNX Runtime; everything else is the learner's own."""

    def __init__(self, network: OnnxNetwork, learner: Learner) -> None:
        self._network, self._learner = network, learner

    @property
    def name(self) -> str | None:
        return ONNX_RUNTIME

    @property
    def learner(self) -> Learner:
        return cast("Learner", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learner, name)

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return the outputs of the network."""
        return self._network.predict(inputs, batch_size)


class MeasuredEngine(OnnxEngine):
    """An engine that is decided by the first rows."""

    def __init__(
        self, network: OnnxNetwork, learner: Learner, inference: Inference, log: Log, agree: Agree = _alone
    ) -> None:
        super().__init__(network, learner)
        self._inference, self._log, self._agree = inference, log, agree
        self._decided: str | None = None

    @property
    def name(self) -> str | None:
        return self._decided

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return the outputs of the engine, which the first call decides. Raises EngineDisagrees, UnsupportedJob."""
        if self._decided is None and len(inputs):
            self._decided = self._agree(self._decide(inputs[: BATCHES * batch_size], batch_size))
        engine = self._learner if self._decided == FRAMEWORK else self._network
        return engine.predict(inputs, batch_size)

    def _decide(self, inputs: Array, batch_size: int) -> str:
        try:
            difference, speed = compared(self._network, self._learner, inputs, batch_size)
        except _Unusable as why:
            return self._refuse(UnsupportedJob, str(why))
        if not difference <= TOLERANCE:
            message = f"the outputs of {_runtime()} differ by {difference:.2g} in the first {len(inputs):,} rows"
            return self._refuse(EngineDisagrees, message)
        measured = f"{speed:.1f} times as fast as {self._inference.framework} in the first {len(inputs):,} rows"
        if self._inference.engine == "auto" and speed < FASTER:
            self._log(f"computes with {self._inference.framework}: {_runtime()} is {measured}")
            return FRAMEWORK
        self._log(f"computes with {_runtime()}: {measured}, and equal to it within {max(difference, 1e-9):.0e}")
        return ONNX_RUNTIME

    def _refuse(self, error: type[UnsupportedJob] | type[EngineDisagrees], why: str) -> str:
        """Fall back to the framework, or raise the error if ONNX Runtime was asked for."""
        if self._inference.engine == ONNX_RUNTIME:
            raise error(f"inference.engine: {why}; use auto or framework")
        self._log(f"computes with {self._inference.framework}: {why}")
        return FRAMEWORK


def compared(network: OnnxNetwork, learner: Learner, inputs: Array, batch_size: int) -> tuple[float, float]:
    """Return the largest difference of the outputs, and the network's speed in that of the learner.

    One computes all batches before the other begins: the threads of an engine that has just computed go on to look for
    work for a while, and would slow down the other.
    """
    batches = [inputs[at : at + batch_size] for at in range(0, len(inputs), batch_size)]
    wanted, theirs = timed(learner, batches)
    try:
        found, ours = timed(network, batches)
    except Exception as error:
        raise _Unusable(f"{_runtime()} cannot compute the model: {_text(error)}") from error
    return max(map(measured_difference, found, wanted)), speed_of(ours, theirs)


def timed(engine: Predicts, batches: list[Array]) -> tuple[list[Array], list[float]]:
    """Return the outputs of an engine, and the seconds of each batch but the first, which compiles.

    A single batch is computed twice.
    """
    found, seconds = list[Array](), list[float]()
    for batch in batches if len(batches) > 1 else 2 * batches:
        begun = time.perf_counter()
        found.append(engine.predict(batch, len(batch)))
        seconds.append(time.perf_counter() - begun)
    return found[: len(batches)], seconds[1:]


def speed_of(ours: list[float], theirs: list[float]) -> float:
    """Return the ratio of the best times: what else the machine does makes single ones longer."""
    return min(theirs) / max(min(ours), 1e-9)


def measured_difference(found: Array, wanted: Array) -> float:
    """Return the largest difference, relative to numbers above 1; infinite for other shapes or other NaN."""
    if found.shape != wanted.shape:
        return float("inf")
    equal = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    if equal.all():
        return 0.0
    with np.errstate(invalid="ignore"):
        relative = np.abs(found - wanted, dtype=np.float64) / np.maximum(1.0, np.abs(wanted, dtype=np.float64))
    return float(np.where(equal, 0.0, np.nan_to_num(relative, nan=np.inf, posinf=np.inf)).max())
