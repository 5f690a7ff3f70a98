"""Typed settings, read once from `NIGHTSHIFT_*` environment variables (or `.env`), checked once.

Field descriptions are printed by `nightshift check --settings` and in docs/settings.md. They say what happens when a
value is too low or too high.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nightshift.errors import ConfigurationError
from nightshift.names import DEVICE_LABEL

#: A folder, or a bucket (with a name that S3 allows) and optionally a prefix in it.
_STORAGE_URL = re.compile(r"file:///.*|s3://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()=-]+)*/?")


class Settings(BaseSettings):
    """Settings of the service, the workers and the client."""

    model_config = SettingsConfigDict(env_prefix="NIGHTSHIFT_", env_file=".env", extra="ignore", frozen=True)

    environment: Literal["development", "production"] = Field(
        "development", description="`production` refuses settings that are only safe on a laptop."
    )
    data_dir: Path = Field(
        Path("nightshift-data"), description="Folder of the SQLite database, data sets, checkpoints and artifacts."
    )
    umask: str = Field(
        "077",
        pattern=r"^0?[0-7]{3}$",
        description=(
            "Permission bits removed from the service's files and data folder (octal). 077: only its own user "
            "has access; 027: its group may read, for hosts that share a storage folder. With fewer bits, "
            "others can read the database, which holds webhook secrets."
        ),
    )
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder.")
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="URL of Redis or Valkey; cluster mode is not supported."
    )
    storage_url: str = Field(
        "",
        description=(
            "Storage of data sets, checkpoints and artifacts: `file:///folder` or `s3://bucket/prefix`; empty: "
            "`file://<data_dir>/storage`."
        ),
    )
    storage_endpoint_url: str = Field(
        "",
        pattern=r"^(https?://[^\s/@]+(/[^\s@]*)?)?$",
        description=(
            "Endpoint of an S3-compatible store (MinIO, Ceph, R2); empty: AWS, or AWS_ENDPOINT_URL. Credentials"
            " are the usual AWS_* variables."
        ),
    )
    storage_cache_bytes: int = Field(
        100_000_000_000,
        ge=10_000_000,
        description=(
            "With `s3://`: size of this host's cache in its data folder (bytes). Too low: data sets are "
            "downloaded repeatedly. Too high: the disk fills up."
        ),
    )
    datasets_dir: Path | None = Field(
        None, description="Folder with published data set files: mnist/, fashion-mnist/, cifar10/."
    )
    dataset_downloads: Literal["auto", "never"] = Field(
        "auto",
        description=(
            "Whether workers download a built-in data set whose files are not in `NIGHTSHIFT_DATASETS_DIR`. "
            "`never`: the API refuses a job whose data set is neither registered nor in that folder."
        ),
    )

    api_url: str = Field("http://127.0.0.1:8000", description="Client: URL of the API.")
    api_key: SecretStr | None = Field(None, description="Client: API key; empty: `<data_dir>/api_key`.")
    api_host: str = Field("127.0.0.1", description="Address that the API listens on.")
    api_port: int = Field(8000, ge=0, le=65535, description="Port of the API; 0 picks a free one.")
    flower_host: str = Field("127.0.0.1", description="Address that Flower listens on.")
    flower_port: int = Field(5555, ge=0, le=65535, description="Port of Flower; 0 picks a free one.")
    flower_url_prefix: str = Field(
        "",
        pattern=r"^/?[A-Za-z0-9._~-]*(/[A-Za-z0-9._~-]+)*/?$",
        description="Path under which a proxy serves Flower, e.g. `flower`.",
    )
    flower_read_only: bool = Field(False, description="Make Flower's pages read-only.")
    flower_shows: Literal["own", "everyone"] = Field(
        "own", description="Whose jobs Flower's pages show: those of the key's owner, or everyone's."
    )
    request_seconds: float = Field(
        30.0,
        gt=0,
        description=(
            "Time-out for the head of a request to the API, and for silence within a body (seconds); then the "
            "connection is closed. Too low: clients on slow networks are cut off. Too high: incomplete requests"
            " hold connections."
        ),
    )
    max_body_bytes: int = Field(1_000_000, ge=1_000, description="Largest JSON body (bytes); larger ones get 413.")
    max_upload_bytes: int = Field(
        20_000_000_000, ge=1_000_000, description="Largest data set upload (bytes); larger ones get 413."
    )
    max_dataset_bytes: int = Field(
        500_000_000_000,
        ge=1_000_000,
        description=(
            "Largest stored data set version (bytes). Too low: legitimate data sets are refused. Too high: a "
            "small upload of large images fills the disk."
        ),
    )

    host_name: str = Field(default_factory=socket.gethostname, description="Host part of worker names (`gpu0@host`).")
    labels: str = Field(
        "",
        pattern=rf"^({DEVICE_LABEL}(,{DEVICE_LABEL})*)?$",
        description=(
            "Worker: labels of its devices, e.g. `nvlink,room=3`; jobs may require them (`resources.labels`)."
        ),
    )
    lease_seconds: float = Field(
        30.0,
        gt=0,
        description=(
            "Duration of a lease without a heartbeat (seconds). Too low: a short stall loses the job. Too high:"
            " a dead worker's job waits this long."
        ),
    )
    heartbeat_seconds: float = Field(
        5.0,
        gt=0,
        description=(
            "Interval at which leases are renewed (seconds). Too low: needless writes. Above a third of the "
            "lease: one lost renewal loses the job."
        ),
    )
    maintenance_seconds: float = Field(
        5.0,
        gt=0,
        description=(
            "Interval of the dispatcher and the rescuer (seconds). Too low: load. Too high: lost doorbells and "
            "dead workers' jobs wait."
        ),
    )
    relay_seconds: float = Field(
        0.5,
        gt=0,
        description=(
            "Interval at which a runner's messages are written to SQL (seconds). Too low: one transaction per "
            "message. Too high: watchers see them late."
        ),
    )
    stop_grace_seconds: float = Field(
        10.0,
        gt=0,
        description="Time from a stop request or SIGTERM to SIGKILL of the runner's process group (seconds).",
    )
    drain_seconds: float = Field(
        50.0,
        gt=0,
        description=("How long a draining worker waits for its job's checkpoint before it kills the runner (seconds)."),
    )
    stall_seconds: float = Field(
        1800.0,
        gt=0,
        description=(
            "How long a runner may send nothing while it loads, takes its first step, validates, evaluates or "
            "writes, before it is killed as stalled (seconds). Too low: a long evaluation is killed. Too high: "
            "a hung runner holds its device this long."
        ),
    )
    stall_factor: float = Field(
        20.0,
        gt=1,
        description=(
            "During training steps, a runner is stalled after this many times its slowest recent step. Too low:"
            " a hiccup of the storage kills it. Too high: a hung loop holds its device longer."
        ),
    )
    stall_floor_seconds: float = Field(
        60.0,
        gt=0,
        description=(
            "Minimum of that time-out (seconds), at most `stall_seconds`. Too low: short steps on a busy "
            "machine count as a stall. Too high: a hung loop holds its device this long."
        ),
    )
    poison_limit: int = Field(
        3, ge=1, description="Consecutive crashes without a new checkpoint after which a job fails."
    )
    lock_dir: Path | None = Field(
        None,
        description=(
            "Folder of the locks that limit a device to one runner; empty: `<data_dir>/locks`. Installations "
            "that share a host's GPUs need the same folder."
        ),
    )
    slot_wait_seconds: float = Field(
        60.0,
        gt=0,
        description=(
            "How long an attempt waits for a device that an earlier attempt's process still holds, before its "
            "job returns to the queue uncharged (seconds). Too low: jobs are requeued because of a slow exit. "
            "Too high: a job waits for one device while others are free."
        ),
    )
    device_retry_seconds: float = Field(
        60.0,
        gt=0,
        description=(
            "How long a worker that left its GPU waits before it tries again whether a framework works on it (seconds)."
            " Too low: a broken device is asked all the time. Too high: a mended one stays idle this long."
        ),
    )
    preempt_priority_gap: int = Field(
        2,
        ge=1,
        le=10,
        description=(
            "An urgent job (`preempt` in its spec) may preempt a running one whose priority is lower by at "
            "least this much. Too low: minor jobs preempt long runs. 10: preemption is off."
        ),
    )
    preempt_patience_seconds: float = Field(
        5.0,
        ge=0,
        description=(
            "How long an urgent job waits for a free worker before it preempts another job (seconds). Too low: "
            "a job is preempted although a worker was about to be free. Too high: urgent jobs wait."
        ),
    )
    preempt_quiet_seconds: float = Field(
        600.0,
        ge=0,
        description=(
            "Cool-down after each restart during which the job cannot be preempted again (seconds), multiplied "
            "by its preemption count. Too low: repeated urgent jobs keep it from making progress. Too high: "
            "urgent jobs find no job to preempt."
        ),
    )
    gang_patience_seconds: float = Field(
        600.0,
        ge=0,
        description=(
            "How long a job of several devices waits before devices that come free are kept for it (seconds); until it "
            "starts, only jobs that end before then (`timeout_seconds`) or whose priority is lower by "
            "`preempt_priority_gap`, which give way, use them. Too low: devices idle while gangs "
            "gather them. Too high: gangs wait behind a stream of small jobs."
        ),
    )
    runner_memory_limit_bytes: int | None = Field(
        None, description="Address-space limit of a runner (bytes); empty: none."
    )
    max_log_bytes: int = Field(
        10_000_000, ge=10_000, description="Log kept per attempt (bytes); what exceeds it is counted and dropped."
    )
    torch_threads: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        None,
        description=(
            "Threads of a runner; results on a CPU depend on it. Empty: the cores that the process may run on, shared"
            " evenly by the GPU workers that one command starts. Too high on cores that do other work: threads wait for"
            " each other, and a step takes several times as long. `auto`: as many as there are idle cores when a run "
            "begins, which it keeps; so the last bits of two equal runs may differ."
        ),
    )

    frameworks: str = Field(
        "",
        description=(
            "Frameworks that this worker serves, e.g. `torch`; empty: all that are installed. The first is loaded at "
            "the start, before a job needs it."
        ),
    )
    families: str = Field(
        "",
        description=(
            "Model families that jobs may name, e.g. `built-in,resnet`, where `built-in` stands for those of"
            " Nightshift; empty: these."
        ),
    )
    programs: str = Field(
        "",
        description="Installed programs that jobs of kind `run` may name, e.g. `gbm,resnet`; empty: none.",
    )
    secrets_file: Path | None = Field(
        None,
        description=(
            "Worker: file of the secrets that programs may ask for, `NAME=value` lines, readable by its owner only"
            " (mode 0600); empty: none. `NIGHTSHIFT_SECRET_<NAME>` in the worker's environment does the same for one."
        ),
    )
    preload: bool = Field(
        True,
        description=(
            "Import frameworks before the first job. Off: less memory while idle, but each job imports for "
            "itself (seconds)."
        ),
    )
    warm_at_start: bool = Field(
        True,
        description=(
            "Load the first of the frameworks in the background as soon as the worker is online. Off: less memory "
            "until the first job, which waits for the framework (seconds)."
        ),
    )
    forkserver_idle_seconds: float = Field(
        3600.0,
        ge=0,
        description=(
            "How long a loaded framework stays in memory without a job (seconds); 0: as long as the worker runs. A "
            "framework is loaded again when a job needs it. Too low: jobs with pauses between them wait for it each "
            "time (seconds). Too high: an idle worker keeps hundreds of megabytes."
        ),
    )

    webhooks_allow_private: bool = Field(
        False,
        description=(
            "Allow webhooks to private and loopback addresses and over plain http. On: any holder of an API key"
            " can make this host send requests inside its network."
        ),
    )
    webhooks_timeout_seconds: float = Field(
        10.0,
        ge=0.1,
        le=30.0,
        description=(
            "Time-out of one delivery attempt (seconds). Too low: a slow receiver gets deliveries twice. Too "
            "high: it blocks a sender this long."
        ),
    )
    webhooks_max_attempts: int = Field(
        10,
        ge=1,
        le=50,
        description="Delivery attempts before a delivery fails; ten take about 15 hours.",
    )

    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: colored on a terminal, JSON otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.heartbeat_seconds * 3 > self.lease_seconds:
            raise ValueError("NIGHTSHIFT_HEARTBEAT_SECONDS must be at most a third of NIGHTSHIFT_LEASE_SECONDS")
        if self.storage_url and not _STORAGE_URL.fullmatch(self.storage_url):
            raise ValueError("NIGHTSHIFT_STORAGE_URL must be file:// and an absolute path, or s3://bucket/prefix")
        return self

    @model_validator(mode="after")
    def _safe_in_production(self) -> Settings:
        if self.environment == "production":
            problems = production_problems(self, os.environ)
            if problems:
                raise ValueError("NIGHTSHIFT_ENVIRONMENT=production refuses: " + "; ".join(problems))
        return self

    @property
    def sql_url(self) -> str:
        """Return the SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'nightshift.db'}"

    @property
    def storage_root(self) -> Path:
        """Return the folder where this host reads and writes stored files: the storage itself, or its cache."""
        if not self.storage_url:
            return self.data_dir.resolve() / "storage"
        if self.storage_url.startswith("s3://"):
            return self.data_dir.resolve() / "storage-cache"
        return Path(self.storage_url.removeprefix("file://"))


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `.env`. Raises ConfigurationError that names each wrong variable, never its value."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_problem(dict(item)) for item in error.errors())) from None


def _problem(error: dict[str, Any]) -> str:
    name = "_".join(str(part) for part in error["loc"]).upper()
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"NIGHTSHIFT_{name}: {message}" if name else message


@lru_cache
def get_settings() -> Settings:
    """Return this process's settings. Raises ConfigurationError."""
    return load_settings()


# -- settings that production refuses -------------------------------------------------------------

#: Passwords of examples, which must not be used in production.
_EXAMPLE_PASSWORDS = frozenset({"nightshift", "postgres", "password", "secret", "changeme", "change-me"})
#: Switches of the test suite; each allows running or killing arbitrary code.
_TEST_SWITCHES = ("NIGHTSHIFT_FAILPOINT", "FLOWER_UNAUTHENTICATED_API")


def production_problems(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Return the settings that are not safe in production, each with a remedy."""
    return [
        *_database_problems(settings.sql_url),
        *_password_problems("NIGHTSHIFT_REDIS_URL", settings.redis_url.get_secret_value()),
        *(f"{name} is set (it is for tests): remove it" for name in _TEST_SWITCHES if environ.get(name)),
    ]


def _database_problems(url: str) -> list[str]:
    """Return the problems of the database URL; SQLite serves the processes of one host only."""
    if urlsplit(url).scheme.startswith("sqlite"):
        return [
            "NIGHTSHIFT_DATABASE_URL is SQLite, which serves one host only: use postgresql://user:password@host/name"
        ]
    return _password_problems("NIGHTSHIFT_DATABASE_URL", url)


def _password_problems(name: str, url: str) -> list[str]:
    password = urlsplit(url).password
    if not password:
        return [f"{name} has no password: anyone who reaches that port could read and change its data"]
    if password.lower() in _EXAMPLE_PASSWORDS:
        return [f"{name} has the password of an example: choose your own"]
    return []
