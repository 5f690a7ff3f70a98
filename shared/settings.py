"""Typed settings, read once from `NIGHTSHIFT_*` environment variables (or `.env`), checked once.

Every field's description is what `nightshift check --settings` and the reference print; comments say what too low and
too high do.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nightshift.errors import ConfigurationError

#: A folder, or a bucket (names as S3 allows them) and perhaps a place in it.
_STORAGE_URL = re.compile(r"file:///.*|s3://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()=-]+)*/?")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="NIGHTSHIFT_", env_file=".env", extra="ignore", frozen=True)

    environment: Literal["development", "production"] = Field(
        "development", description="`production` refuses settings that are only safe on a laptop."
    )
    data_dir: Path = Field(
        Path("nightshift-data"), description="Where SQLite, data sets, checkpoints and artifacts live."
    )
    umask: str = Field(
        "077",
        pattern=r"^0?[0-7]{3}$",
        description="Permissions that files of the service and its data folder do not get (octal). 077: its own user only; 027: its group may read, where hosts share a storage folder through one. Less lets others read the database, which holds the secrets of webhooks.",
    )
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder.")
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="Redis or Valkey; cluster mode is refused."
    )
    storage_url: str = Field(
        "",
        description="Where data sets, checkpoints and artifacts go: `file:///folder` or `s3://bucket/prefix`; empty: `file://<data_dir>/storage`.",
    )
    storage_endpoint_url: str = Field(
        "",
        pattern=r"^(https?://[^\s/@]+(/[^\s@]*)?)?$",
        description="Address of an S3-like store that is not Amazon's (MinIO, Ceph, R2); empty: AWS, or what AWS_ENDPOINT_URL says. Credentials are the usual AWS_* variables.",
    )
    storage_cache_bytes: int = Field(
        100_000_000_000,
        ge=10_000_000,
        description="With `s3://`: what this host keeps of the store in its data folder (bytes). Too low: data sets are brought again and again. Too high: the disk fills up.",
    )
    datasets_dir: Path | None = Field(
        None, description="Folder with published data set files: mnist/, fashion-mnist/, cifar10/."
    )
    dataset_downloads: Literal["auto", "never"] = Field(
        "auto",
        description="Whether workers download a built-in data set whose files are not in `NIGHTSHIFT_DATASETS_DIR`. `never`: the API refuses a job that names one which is neither registered nor in its own folder.",
    )

    api_url: str = Field("http://127.0.0.1:8000", description="Client side: where the API is.")
    api_key: SecretStr | None = Field(None, description="Client side: the key; empty: `<data_dir>/api_key`.")
    api_host: str = Field("127.0.0.1", description="Address the API listens on.")
    api_port: int = Field(8000, ge=0, le=65535, description="Port of the API; 0 picks a free one.")
    flower_host: str = Field("127.0.0.1", description="Address Flower listens on.")
    flower_port: int = Field(5555, ge=0, le=65535, description="Port of Flower; 0 picks a free one.")
    flower_url_prefix: str = Field(
        "",
        pattern=r"^/?[A-Za-z0-9._~-]*(/[A-Za-z0-9._~-]+)*/?$",
        description="Path under which a proxy shows Flower, e.g. `flower`.",
    )
    flower_read_only: bool = Field(False, description="Flower shows everything and changes nothing.")
    flower_shows: Literal["own", "everyone"] = Field(
        "own", description="Whose jobs our pages in Flower show: those of the key's owner, or everyone's."
    )
    request_seconds: float = Field(
        30.0,
        gt=0,
        description="How long the head of a request to the API may take, and its body be silent, before the connection is closed (seconds). Too low: bad networks are cut off. Too high: half-sent requests hold connections.",
    )
    max_body_bytes: int = Field(1_000_000, ge=1_000, description="Largest JSON body (bytes); larger is 413.")
    max_upload_bytes: int = Field(
        20_000_000_000, ge=1_000_000, description="Largest data set upload (bytes); larger is 413."
    )
    max_dataset_bytes: int = Field(
        500_000_000_000,
        ge=1_000_000,
        description="Largest stored data set version (bytes). Too low: honest sets are refused. Too high: one small upload of big pictures fills the disk.",
    )

    host_name: str = Field(
        default_factory=socket.gethostname, description="This host's part of worker names (`gpu0@host`)."
    )
    lease_seconds: float = Field(
        30.0,
        gt=0,
        description="How long a claim lasts without a heartbeat. Too low: a short stall loses the job. Too high: a dead worker's job waits as long.",
    )
    heartbeat_seconds: float = Field(
        5.0,
        gt=0,
        description="How often a lease is renewed. Too low: needless writes. Above a third of the lease: one lost renewal loses the job.",
    )
    maintenance_seconds: float = Field(
        5.0,
        gt=0,
        description="How often the dispatcher and the rescuer run. Too low: load. Too high: lost doorbells and dead workers wait.",
    )
    relay_seconds: float = Field(
        0.5,
        gt=0,
        description="How often a runner's frames are written to SQL. Too low: one transaction per frame. Too high: watchers see late.",
    )
    stop_grace_seconds: float = Field(
        10.0, gt=0, description="From a stop request or SIGTERM to SIGKILL of the runner's group."
    )
    drain_seconds: float = Field(
        50.0, gt=0, description="How long a draining worker waits for its job's checkpoint before it kills it."
    )
    stall_seconds: float = Field(
        1800.0,
        gt=0,
        description="How long a runner may say nothing while it loads, takes its first step, validates, evaluates or writes, before it is killed as stalled. Too low: a long evaluation is killed. Too high: one that hangs there holds its device as long.",
    )
    stall_factor: float = Field(
        20.0,
        gt=1,
        description="In its loop of steps a runner is stalled after so many times the slowest of its last steps. Too low: a hiccup of the storage kills it. Too high: a wedged loop holds its device as long.",
    )
    stall_floor_seconds: float = Field(
        60.0,
        gt=0,
        description="But never sooner than this, or than `stall_seconds` where that is less. Too low: short steps on a busy machine are taken for a stall. Too high: a wedged loop holds its device as long.",
    )
    poison_limit: int = Field(3, ge=1, description="Crashes in a row without a new checkpoint after which a job fails.")
    lock_dir: Path | None = Field(
        None,
        description="Folder of the locks that keep a device to one runner; empty: `<data_dir>/locks`. Stacks that share a host's GPUs need one folder for all.",
    )
    slot_wait_seconds: float = Field(
        60.0,
        gt=0,
        description="How long an attempt waits for a device that a process of an earlier one still holds, before its job goes back to the queue uncharged. Too low: a slow exit sends jobs around. Too high: a job waits for one device while others are free.",
    )
    preempt_priority_gap: int = Field(
        2,
        ge=1,
        le=10,
        description="An urgent job (`preempt` in its spec) may push out a running one whose priority is lower by so much. Too low: trifles push out long runs. 10: nobody pushes out anybody.",
    )
    preempt_patience_seconds: float = Field(
        5.0,
        ge=0,
        description="How long an urgent job waits for a free worker before another job must make room. Too low: a job is pushed out though a worker was just getting free. Too high: urgent jobs wait.",
    )
    preempt_quiet_seconds: float = Field(
        600.0,
        ge=0,
        description="How long a job that was pushed out before may run on in peace after each new start, times the number of times. Too low: a stream of urgent jobs keeps it from getting on. Too high: urgent jobs find nobody to push out.",
    )
    runner_memory_limit_bytes: int | None = Field(
        None, description="Address-space limit of a runner (bytes); empty: none."
    )
    max_log_bytes: int = Field(
        10_000_000, ge=10_000, description="Log kept per attempt (bytes); the rest is counted and dropped."
    )
    torch_threads: int | None = Field(
        None, ge=1, description="Threads of a CPU runner; part of a run's identity. Empty: the CPU count."
    )

    frameworks: str = Field(
        "", description="Frameworks this worker serves, e.g. `torch`; empty: those that are installed."
    )
    preload: bool = Field(
        True,
        description="Import frameworks before the first job. Off: less memory while idle, and each job imports for itself (seconds).",
    )

    webhooks_allow_private: bool = Field(
        False,
        description="Let webhooks point at private and loopback addresses, and speak plain http. On: whoever has an API key can make this host send requests inside its network.",
    )
    webhooks_timeout_seconds: float = Field(
        10.0,
        ge=0.1,
        le=30.0,
        description="How long one attempt at delivering may take in all. Too low: a slow receiver gets everything twice. Too high: it holds a sender as long.",
    )
    webhooks_max_attempts: int = Field(
        10,
        ge=1,
        le=50,
        description="Attempts at delivering until it is given up; ten take about 15 hours.",
    )

    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: coloured on a terminal, JSON otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )

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
        """SQLAlchemy URL of the database that holds the truth."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'nightshift.db'}"

    @property
    def storage_root(self) -> Path:
        """Where this host reads and writes data sets, checkpoints and artifacts: the storage itself, or its cache."""
        if not self.storage_url:
            return self.data_dir.resolve() / "storage"
        if self.storage_url.startswith("s3://"):
            return self.data_dir.resolve() / "storage-cache"
        return Path(self.storage_url.removeprefix("file://"))


def load_settings(**overrides: Any) -> Settings:
    """From the environment and `.env`; raises ConfigurationError that names each wrong variable, never its value."""
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
    """This process's settings. Raises ConfigurationError."""
    return load_settings()


# -- what production refuses ----------------------------------------------------------------------

#: Passwords that examples use. A copy of an example must not go live.
_EXAMPLE_PASSWORDS = frozenset({"nightshift", "postgres", "password", "secret", "changeme", "change-me"})
#: Switches of the test suite: each would let whoever sets it run or kill what they like.
_TEST_SWITCHES = ("NIGHTSHIFT_FAILPOINT", "FLOWER_UNAUTHENTICATED_API")


def production_problems(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """What is only safe on a laptop, each with the way out. Empty: fit for production."""
    return [
        *_database_problems(settings.sql_url),
        *_password_problems("NIGHTSHIFT_REDIS_URL", settings.redis_url.get_secret_value()),
        *(f"{name} is set (it is for tests): remove it" for name in _TEST_SWITCHES if environ.get(name)),
    ]


def _database_problems(url: str) -> list[str]:
    """SQLite serves the processes of one host; production is many."""
    if urlsplit(url).scheme.startswith("sqlite"):
        return [
            "NIGHTSHIFT_DATABASE_URL is SQLite, which serves one host only: use postgresql://user:password@host/name"
        ]
    return _password_problems("NIGHTSHIFT_DATABASE_URL", url)


def _password_problems(name: str, url: str) -> list[str]:
    password = urlsplit(url).password
    if not password:
        return [f"{name} has no password: anybody who reaches that port could read and forge what is in it"]
    if password.lower() in _EXAMPLE_PASSWORDS:
        return [f"{name} has the password of an example: choose your own"]
    return []
