"""Every error Nightshift raises on purpose, drawn as a tree.

NightshiftError
├── RequestError                what a user asked for cannot be done; becomes a problem+json
│   ├── InvalidRequest   422    a field is wrong: names field, value and the way out
│   ├── MalformedRequest 400    not parseable at all (JSON, cursor)
│   ├── Unauthorized     401
│   ├── Forbidden        403    it may be seen and used, but belongs to somebody else
│   ├── NotFound         404
│   ├── Conflict         409    the state does not allow it (cancel of a final job)
│   ├── TooLarge         413
│   ├── UnsupportedMedia 415
│   └── StorageFull      507    the server's disk has no room for it
├── Unavailable          503    a part we need does not answer
│   ├── DatabaseUnavailable
│   │   └── DatabaseLocked      another process holds SQLite's write lock
│   ├── BrokerUnavailable
│   └── StorageUnavailable      the object store
├── LeaseLost                   this attempt no longer owns the job: kill the runner, discard, take the next
├── ConfigurationError          the settings cannot work; says which and what to do
├── CorruptCheckpoint           a checkpoint does not match its hash
├── NotStored                   what SQL names is not in the object store, or is not what was put there
└── JobError                    how an attempt can end in a typed error (crosses the pipe as `error` frame)
    ├── NonFiniteLoss
    ├── BadData
    ├── DatasetUnavailable      its files are neither here nor to be had by download
    ├── OutOfMemory
    │   └── DeviceOutOfMemory
    ├── UnsupportedJob
    └── UnexpectedError         anything else a runner raised
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class NightshiftError(Exception):
    """Root of everything raised on purpose."""


# -- what a user asked for ------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldError:
    """One wrong field: `loc` is the path to it (`("training", "epochs")`), `msg` names the way out."""

    loc: tuple[str | int, ...]
    msg: str


class RequestError(NightshiftError):
    """Root of errors the caller can mend; `status`, `slug` and `title` make the problem document (RFC 9457)."""

    status: ClassVar[int] = 400
    slug: ClassVar[str] = "bad-request"
    title: ClassVar[str] = "The request cannot be served"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)


class InvalidRequest(RequestError):
    status, slug, title = 422, "invalid-request", "The request is not valid"

    @classmethod
    def field(cls, loc: tuple[str | int, ...], msg: str) -> InvalidRequest:
        return cls(f"{'.'.join(map(str, loc))}: {msg}", [FieldError(loc, msg)])


class MalformedRequest(RequestError):
    status, slug, title = 400, "malformed-request", "The request cannot be parsed"


class Unauthorized(RequestError):
    status, slug, title = 401, "unauthorized", "A valid API key is needed"


class Forbidden(RequestError):
    status, slug, title = 403, "forbidden", "This belongs to somebody else"


class NotFound(RequestError):
    status, slug, title = 404, "not-found", "There is no such thing"

    @classmethod
    def of(cls, noun: str, name: str) -> NotFound:
        return cls(f"There is no {noun} {name!r}.")


class Conflict(RequestError):
    status, slug, title = 409, "conflict", "The present state does not allow this"


class TooLarge(RequestError):
    status, slug, title = 413, "too-large", "The request is too large"


class UnsupportedMedia(RequestError):
    status, slug, title = 415, "unsupported-media-type", "This content type is not supported"


class StorageFull(RequestError):
    status, slug, title = 507, "storage-full", "The server has no room for this"


# -- what does not answer -------------------------------------------------------------------------


class Unavailable(NightshiftError):
    """A part we need does not answer; the API says 503 and never a false 2xx."""


class DatabaseUnavailable(Unavailable):
    pass


class DatabaseLocked(DatabaseUnavailable):
    """SQLite's one write lock was not to be had in time. Reads go on."""


class BrokerUnavailable(Unavailable):
    pass


class StorageUnavailable(Unavailable):
    pass


# -- inside ---------------------------------------------------------------------------------------


class LeaseLost(NightshiftError):
    """The fence moved on or the job left `running`: nothing of this attempt may be written any more."""

    def __init__(self, job_id: str, fence: int) -> None:
        super().__init__(f"attempt {fence} of job {job_id} no longer holds the lease; kill its runner and discard it")
        self.job_id, self.fence = job_id, fence


class ConfigurationError(NightshiftError):
    pass


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
    """The files of a built-in set cannot be had here now; another worker, or this one later, may have them."""

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
