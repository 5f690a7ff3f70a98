"""Errors inside the server and the workers. Those of requests are in `nightshift.errors`.

NightshiftError
├── Unavailable          503    a part that is needed does not answer
│   ├── DatabaseUnavailable
│   │   └── DatabaseLocked      another process holds SQLite's write lock
│   ├── BrokerUnavailable
│   └── StorageUnavailable      the object store
├── LeaseLost                   this attempt no longer owns the job: kill the runner, discard, take the next
├── CorruptCheckpoint           a checkpoint does not match its hash
├── NotStored                   what SQL names is not in the object store, or is not what was put there
└── JobError                    how an attempt can end in a typed error (crosses the pipe as `error` frame)
    ├── NonFiniteLoss
    ├── BadData
    ├── DatasetUnavailable      its files are neither here nor can they be downloaded
    ├── OutOfMemory
    │   └── DeviceOutOfMemory
    ├── UnsupportedJob
    └── UnexpectedError         anything else a runner raised
"""

from __future__ import annotations

from typing import ClassVar

from nightshift.errors import NightshiftError, Unavailable

# -- what does not answer -------------------------------------------------------------------------


class DatabaseUnavailable(Unavailable):
    pass


class DatabaseLocked(DatabaseUnavailable):
    """SQLite's write lock was not free in time. Reads continue."""


class BrokerUnavailable(Unavailable):
    pass


class StorageUnavailable(Unavailable):
    pass


# -- inside ---------------------------------------------------------------------------------------


class LeaseLost(NightshiftError):
    """Another attempt has the fence or the job left `running`: this attempt must write nothing more."""

    def __init__(self, job_id: str, fence: int) -> None:
        super().__init__(f"attempt {fence} of job {job_id} no longer holds the lease; kill its runner and discard it")
        self.job_id, self.fence = job_id, fence


class CorruptCheckpoint(NightshiftError):
    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"checkpoint {path} is damaged ({why}); the one before it is used")
        self.path = path


class NotStored(NightshiftError):
    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key} in the storage {why}")
        self.key = key


# -- how an attempt can fail ----------------------------------------------------------------------


class JobError(NightshiftError):
    """A typed failure of the job's own work. `type` is what users see in `error.type`."""

    type: ClassVar[str] = "job_error"
    retryable: ClassVar[bool] = False


class NonFiniteLoss(JobError):
    type = "non_finite_loss"

    def __init__(self, step: int, value: float) -> None:
        super().__init__(
            f"the loss became {value} at step {step}; the weights of the last finite checkpoint are kept. "
            "Lower training.learning_rate or set training.grad_clip."
        )


class BadData(JobError):
    type = "bad_data"


class DatasetUnavailable(JobError):
    """The files of a built-in set are not available here now; another worker, or this one later, may have them."""

    type = "dataset_unavailable"
    retryable = True

    def __init__(self, name: str, why: str, way_out: str) -> None:
        super().__init__(f"the data set {name} {why}. {way_out}")


class OutOfMemory(JobError):
    type = "out_of_memory"
    retryable = True


class DeviceOutOfMemory(OutOfMemory):
    """The GPU's memory, not the host's: a smaller batch or precision helps, more RAM does not."""

    type = "device_out_of_memory"


class UnsupportedJob(JobError):
    """This worker cannot run what the spec asks for (framework missing, family unknown)."""

    type = "unsupported_job"


class UnexpectedError(JobError):
    type = "unexpected_error"
    retryable = True
