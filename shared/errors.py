"""Errors inside the service and its workers. Errors of requests are in `nightshift.errors`.

NightshiftError
├── Unavailable          503    a required service does not answer
│   ├── DatabaseUnavailable
│   │   └── DatabaseLocked      another process holds SQLite's write lock
│   ├── BrokerUnavailable
│   └── StorageUnavailable      the object store
├── LeaseLost                   this attempt no longer holds the lease: kill the runner and discard the attempt
├── CorruptCheckpoint           a checkpoint does not match its hash
├── NotStored                   an object that SQL names is missing in the object store, or was changed
└── JobError                    a typed error of an attempt (an `error` message on the runner's pipe)
    ├── NonFiniteLoss
    ├── BadData
    ├── DatasetUnavailable      its files are not on this host and cannot be downloaded
    ├── OutOfMemory
    │   └── DeviceOutOfMemory
    ├── DeviceFailed            the GPU works no more in this process, or not at all
    ├── UnsupportedJob
    ├── EngineDisagrees         ONNX Runtime computes something else than the model's framework
    └── UnexpectedError         any other exception of a runner
"""

from __future__ import annotations

from typing import ClassVar

from nightshift.errors import NightshiftError, Unavailable

# -- services that do not answer ------------------------------------------------------------------


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""


class DatabaseLocked(DatabaseUnavailable):
    """SQLite's write lock was not free in time. Reads continue."""


class BrokerUnavailable(Unavailable):
    """Redis does not answer."""


class StorageUnavailable(Unavailable):
    """The object store does not answer."""


# -- errors of workers ----------------------------------------------------------------------------


class LeaseLost(NightshiftError):
    """A later attempt has the fence, or the job is no longer running: this attempt must write nothing more."""

    def __init__(self, job_id: str, fence: int) -> None:
        super().__init__(f"attempt {fence} of job {job_id} no longer holds the lease; kill its runner and discard it")
        self.job_id, self.fence = job_id, fence


class CorruptCheckpoint(NightshiftError):
    """A checkpoint does not match its hash."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"checkpoint {path} is damaged ({why}); the one before it is used")
        self.path = path


class NotStored(NightshiftError):
    """An object that SQL names is missing in the object store, or was changed."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key} in the storage {why}")
        self.key = key


# -- errors of jobs -------------------------------------------------------------------------------


class JobError(NightshiftError):
    """A typed failure of the job's own work. `type` is shown to users as `error.type`."""

    type: ClassVar[str] = "job_error"
    retryable: ClassVar[bool] = False


class NonFiniteLoss(JobError):
    """The training loss became infinite or NaN."""

    type = "non_finite_loss"

    def __init__(self, step: int, value: float) -> None:
        super().__init__(
            f"the loss became {value} at step {step}; the weights of the last finite checkpoint are kept. "
            "Lower training.learning_rate or set training.grad_clip."
        )


class BadData(JobError):
    """The data set does not fit the job."""

    type = "bad_data"


class DatasetUnavailable(JobError):
    """The files of a built-in data set are not available now; a retry, or another worker, may find them."""

    type = "dataset_unavailable"
    retryable = True

    def __init__(self, name: str, why: str, way_out: str) -> None:
        super().__init__(f"the data set {name} {why}. {way_out}")


class OutOfMemory(JobError):
    """The host's memory was exhausted."""

    type = "out_of_memory"
    retryable = True


class DeviceOutOfMemory(OutOfMemory):
    """The GPU's memory was exhausted: a smaller batch or lower precision helps, more host memory does not."""

    type = "device_out_of_memory"


class DeviceFailed(JobError):
    """The GPU works no more in this process, or not at all. The worker tries it again, and leaves it if it fails."""

    type = "device_failed"
    retryable = True


class DiskFull(JobError):
    """The disk of the worker's host is full. The job goes to another host, or waits until there is room."""

    type = "disk_full"
    retryable = True


class UnsupportedJob(JobError):
    """The worker cannot run the spec (framework not installed, family unknown)."""

    type = "unsupported_job"


class EngineDisagrees(JobError):
    """ONNX Runtime, which the job asks for, computes something else than the model's framework."""

    type = "engine_disagrees"


class UnexpectedError(JobError):
    """Any other exception of a runner."""

    type = "unexpected_error"
    retryable = True
