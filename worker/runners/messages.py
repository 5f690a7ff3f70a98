"""What supervisor and runner say to each other: JSON frames, one per line, over a socket pair.

    supervisor -> runner      Assignment (once, first), Stop (at most a few), Champion (one per AskChampion)
    runner -> supervisor      Started, Progress, Phase, Metrics, CheckpointSaved, ArtifactSaved, Log, AskChampion,
                              Result, Stopped, Failed

The runner speaks no SQL: paths in frames are relative to the folders named in the Assignment. Exactly one of Result,
Stopped or Failed is the last frame of a runner that ends by itself; a pipe that ends without one means it died.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.job_files.checkpoint_record import CheckpointRecord
from shared.job_files.layout import Below
from shared.jobs.states import StopRequest

#: A longer line is a protocol error: the runner is killed, the attempt ends `crashed`. (bytes)
MAX_FRAME_BYTES = 4_000_000


class _Frame(BaseModel):
    # NaN crosses the pipe as NaN, so that the supervisor can say which metric it was.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


# -- supervisor -> runner -------------------------------------------------------------------------


class Assignment(_Frame):
    type: Literal["assignment"] = "assignment"
    job_id: str
    fence: int
    spec: dict[str, Any]  # a complete job spec (shared.specs.jobs)
    job_dir: str  # absolute; checkpoints/ lies in it, other attempts' files too
    work_dir: str  # absolute; this attempt's own: artifacts/ and scratch
    dataset: str | None = None  # the pinned version as `name@3`, to be told
    dataset_dir: str | None = None  # absolute; the pinned version's folder
    parent_model_dir: str | None = None  # absolute; the folder of model_ref's model.safetensors + config.json
    evaluate_dir: str | None = None  # absolute; the folder of promote.evaluate_on
    #: Good checkpoints by SQL, newest first: the runner uses the first that matches its hash.
    resume: list[CheckpointRecord] = []
    device: Literal["cpu", "gpu"] = "cpu"
    threads: int | None = None


class Stop(_Frame):
    type: Literal["stop"] = "stop"
    reason: StopRequest


class Champion(_Frame):
    """The version that `promote.alias` points at now; without a number there is none."""

    type: Literal["champion"] = "champion"
    version: int | None = None
    model_dir: str | None = None  # absolute; None: its files are gone


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
    type: Literal["progress"] = "progress"
    step: int
    total_steps: int | None = None
    epoch: int = 0
    percent: float | None = None
    eta_seconds: float | None = None
    samples_per_second: float | None = None
    loss: float | None = None
    phase: str = "train"  # see Phase
    at: float  # runner's wall clock; for benchmarks, never for leases
    peak_device_memory_bytes: int | None = None


class Phase(_Frame):
    """What it does from here on; never dropped, for the watchdog goes by it. The loops of steps are `train` and
    `infer`; before Started it is `load`, from there to the first step `first_step`."""

    type: Literal["phase"] = "phase"
    phase: Annotated[
        str, Field(max_length=32)
    ]  # load first_step train infer validate checkpoint evaluate figures write


class MetricPoint(_Frame):
    name: str
    step: int
    epoch: int
    value: float


class Metrics(_Frame):
    type: Literal["metrics"] = "metrics"
    points: list[MetricPoint]


class CheckpointSaved(_Frame, CheckpointRecord):
    """The folder is renamed into place and fsynced; only now may a row be written."""

    type: Literal["checkpoint"] = "checkpoint"


class ArtifactSaved(_Frame):
    """A finished file below `work_dir/artifacts/`; its row is written when the job succeeds."""

    type: Literal["artifact"] = "artifact"
    path: Below  # the name users see, relative to work_dir/artifacts
    sha256: str
    size_bytes: int
    media_type: str


class Log(_Frame):
    type: Literal["log"] = "log"
    level: str = "info"
    message: str


class AskChampion(_Frame):
    """The training is done: which version is it to be compared with?"""

    type: Literal["ask_champion"] = "ask_champion"


class Comparison(_Frame):
    """The new model against the champion, on the frozen evaluation set."""

    version: int | None  # of the champion; None: there was none
    candidate: float | None  # None: it could not be judged
    champion: float | None
    lower_bound: float | None = None  # of the improvement, at promote.confidence
    better: bool
    reason: str


class Result(_Frame):
    """The job is done (also after `finish`): metrics to show, and whether there is a model to register."""

    type: Literal["result"] = "result"
    metrics: dict[str, float]
    model: dict[str, Any] | None = None  # {"family", "framework", "path": "model", ...}
    step: int = 0
    peak_device_memory_bytes: int | None = None
    comparison: Comparison | None = None  # of a job with `promote`


class Stopped(_Frame):
    """Left at a step boundary because of Stop(cancel | pause | preempt | drain)."""

    type: Literal["stopped"] = "stopped"
    reason: str
    step: int = 0
    peak_device_memory_bytes: int | None = None


class Failed(_Frame):
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
    | Result
    | Stopped
    | Failed,
    Field(discriminator="type"),
]
ToRunner = Annotated[Assignment | Stop | Champion, Field(discriminator="type")]

_from_runner: TypeAdapter[Any] = TypeAdapter(FromRunner)
_to_runner: TypeAdapter[Any] = TypeAdapter(ToRunner)


def encode(frame: _Frame) -> bytes:
    return frame.model_dump_json().encode() + b"\n"


def decode_from_runner(line: bytes) -> Any:
    """Raises pydantic.ValidationError for anything that is not a frame a runner may send."""
    return _from_runner.validate_json(line)


def decode_to_runner(line: bytes) -> Any:
    return _to_runner.validate_json(line)
