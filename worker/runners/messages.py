"""Messages between supervisor and runner: JSON frames, one per line, over a socket pair.

    supervisor -> runner      WarmUp (at most once, first), Assignment (once), Stop (at most a few), Champion (one per
                              AskChampion), Agreed (one per ProposeEngine)
    runner -> supervisor      Started, Progress, Phase, Metrics, CheckpointSaved, ArtifactSaved, Log, AskChampion,
                              ProposeEngine, Result, Stopped, Failed, Finishing

The runner has no database access. Paths in frames are relative to the folders named in the Assignment. A runner that
ends by itself sends exactly one of Result, Stopped, Failed or Finishing as its last frame; without one it died. After
Finishing the attempt goes on in another runner, without the device.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.job_files.checkpoint_record import CheckpointRecord
from shared.job_files.layout import Below
from shared.jobs.states import StopRequest

#: Most bytes of a frame. A longer one is a protocol error: the runner is killed, the attempt ends `crashed`.
MAX_FRAME_BYTES = 4_000_000


class _Frame(BaseModel):
    # NaN is sent as NaN, so that the supervisor can name the metric.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


# -- supervisor -> runner -------------------------------------------------------------------------


class WarmUp(_Frame):
    """A training whose result is dropped, for a spare runner whose worker is idle."""

    type: Literal["warm_up"] = "warm_up"
    framework: str
    device: Literal["cpu", "gpu"]
    threads: int | None = None


class Shard(_Frame):
    """Which part of its job a shard computes."""

    place: int  # from 0
    shards: int


class ShardParts(_Frame):
    """The parts that a shard left."""

    job_dir: str  # absolute
    parts: list[CheckpointRecord]


class Assignment(_Frame):
    """The job of a runner."""

    type: Literal["assignment"] = "assignment"
    job_id: str
    fence: int
    spec: dict[str, Any]  # a complete job spec (shared.specs.jobs)
    job_dir: str  # absolute; has checkpoints/ and other attempts' files
    work_dir: str  # absolute; artifacts/ and scratch files of this attempt
    dataset: str | None = None  # the pinned version as `name@3`, for logs
    dataset_dir: str | None = None  # absolute; the pinned version's folder
    parent_model_dir: str | None = None  # absolute; the folder of model_ref's model.safetensors + config.json
    evaluate_dir: str | None = None  # absolute; the folder of promote.evaluate_on
    #: Listed checkpoints, newest first; the runner uses the first that passes its hash check.
    resume: list[CheckpointRecord] = []
    shard: Shard | None = None
    #: The engine that the shards of the job have agreed on.
    engine: str | None = None
    #: Of a job that was divided: what its shards left.
    divided: list[ShardParts] = []
    finish: bool = False  # the job was asked to finish before the attempt
    device: Literal["cpu", "gpu"] = "cpu"
    #: The devices of a gang (UUIDs of GPUs, names of CPU slots), one for each rank; empty: the worker's own.
    devices: list[str] = []
    #: `device`: the runner leaves what needs no device to another one. `finishing`: that other one, which gets no lock.
    #: `merging`: it joins what shards left, without the lock.
    part: Literal["whole", "device", "finishing", "merging"] = "whole"
    threads: int | None = None
    package: str | None = None  # distribution and version of the program
    begun_by: str | None = None  # the package that the job began with, if it is another one
    secrets: dict[str, str] = Field({}, repr=False)


class Stop(_Frame):
    """A request to stop at the next step boundary."""

    type: Literal["stop"] = "stop"
    reason: StopRequest


class Champion(_Frame):
    """The version that `promote.alias` points at now, or no version."""

    type: Literal["champion"] = "champion"
    version: int | None = None
    model_dir: str | None = None  # absolute; None: its files are missing
    family: str | None = None  # or the program that made it


class Agreed(_Frame):
    """The engine that all shards of the job compute with."""

    type: Literal["agreed"] = "agreed"
    engine: str


# -- runner -> supervisor -------------------------------------------------------------------------


class Started(_Frame):
    """The device is ready and the state is loaded; the first step comes next."""

    type: Literal["started"] = "started"
    pid: int
    device: str  # "cpu", or the GPU's name
    resumed_from: str | None = None  # checkpoint id
    resumed_step: int | None = None
    quarantined: list[str] = []  # checkpoint ids that did not match their hash
    total_steps: int | None = None


class Progress(_Frame):
    """Progress for people and for the watchdog."""

    type: Literal["progress"] = "progress"
    step: int
    total_steps: int | None = None
    epoch: int = 0
    percent: float | None = None
    eta_seconds: float | None = None
    samples_per_second: float | None = None
    whole_steps: int | None = None  # of a shard: the rows of the whole job
    loss: float | None = None
    phase: str = "train"  # see Phase
    at: float  # runner's wall clock; for benchmarks, never for leases
    peak_device_memory_bytes: int | None = None


class Phase(_Frame):
    """The phase from here on; never dropped, because the watchdog depends on it.

    Loops of steps are `train` and `infer`; before Started the phase is `load`, then `first_step` until the first step.
    """

    type: Literal["phase"] = "phase"
    phase: Annotated[
        str, Field(max_length=32)
    ]  # load first_step train infer validate checkpoint evaluate write finishing


class MetricPoint(_Frame):
    """One value of a metric."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    step: int
    epoch: int
    value: float


class Metrics(_Frame):
    """Metric rows."""

    type: Literal["metrics"] = "metrics"
    points: list[MetricPoint]


class CheckpointSaved(_Frame, CheckpointRecord):
    """A checkpoint whose folder is fsynced and renamed, so that its row may be written."""

    type: Literal["checkpoint"] = "checkpoint"


class ArtifactSaved(_Frame):
    """A finished file below `work_dir/artifacts/`; its row is written when the job succeeds."""

    type: Literal["artifact"] = "artifact"
    path: Below  # the name users see, relative to work_dir/artifacts
    sha256: str
    size_bytes: int
    media_type: str


class Log(_Frame):
    """A line for the job's log."""

    type: Literal["log"] = "log"
    level: str = "info"
    message: str


class AskChampion(_Frame):
    """A request for the champion, sent after training."""

    type: Literal["ask_champion"] = "ask_champion"


class ProposeEngine(_Frame):
    """The engine that a shard would compute with."""

    type: Literal["propose_engine"] = "propose_engine"
    engine: str


class Comparison(_Frame):
    """The new model compared with the champion on the frozen evaluation set."""

    version: int | None  # of the champion; None: there was none
    candidate: float | None  # None: it could not be evaluated
    champion: float | None
    lower_bound: float | None = None  # of the improvement, at promote.confidence
    better: bool
    reason: str


class Result(_Frame):
    """The job is done (also after `finish`), with its metrics and the model to register, if any."""

    type: Literal["result"] = "result"
    metrics: dict[str, float]
    model: dict[str, Any] | None = None  # {"family", "framework", "path": "model", ...}
    step: int = 0
    peak_device_memory_bytes: int | None = None
    comparison: Comparison | None = None  # of a job with `promote`


class Stopped(_Frame):
    """The runner stopped at a step boundary because of Stop(cancel | pause | preempt | drain)."""

    type: Literal["stopped"] = "stopped"
    reason: str
    step: int = 0
    peak_device_memory_bytes: int | None = None


class Finishing(_Frame):
    """The model is final and evaluated, or all rows are computed. What is left needs no device: it lies in files."""

    type: Literal["finishing"] = "finishing"
    peak_device_memory_bytes: int | None = None


class Failed(_Frame):
    """An error of the job."""

    type: Literal["error"] = "error"
    error_type: str  # shared.errors.JobError.type
    message: str
    retryable: bool
    traceback: str | None = None
    peak_device_memory_bytes: int | None = None


FromRunner = Annotated[
    Started
    | Progress
    | Phase
    | Metrics
    | CheckpointSaved
    | ArtifactSaved
    | Log
    | AskChampion
    | ProposeEngine
    | Result
    | Stopped
    | Failed
    | Finishing,
    Field(discriminator="type"),
]
ToRunner = Annotated[WarmUp | Assignment | Stop | Champion | Agreed, Field(discriminator="type")]

_from_runner: TypeAdapter[Any] = TypeAdapter(FromRunner)
_to_runner: TypeAdapter[Any] = TypeAdapter(ToRunner)


def encode(frame: _Frame) -> bytes:
    """Return the frame as a line of JSON."""
    return frame.model_dump_json().encode() + b"\n"


def decode_from_runner(line: bytes) -> Any:
    """Return a runner's frame. Raises pydantic.ValidationError for anything else."""
    return _from_runner.validate_json(line)


def decode_to_runner(line: bytes) -> Any:
    """Return a supervisor's frame. Raises pydantic.ValidationError for anything else."""
    return _to_runner.validate_json(line)
