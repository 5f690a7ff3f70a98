"""All parts of an embedded stack, in the order they start and stop."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from api.launcher import data_dir_lock, redis_server
from api.launcher.check_process import CheckProcess
from api.launcher.device_plan import PlannedWorker, plan_workers
from api.launcher.ports import LOOPBACK, choose_port
from api.launcher.process import ManagedProcess
from nightshift.errors import ConfigurationError
from shared.fleet.gpus import choose_gpus, refuse_memory_limit
from shared.fleet.nvml import Inventory
from shared.settings import Settings, load_settings

#: Time-out for a part to answer at the start (seconds). A cold disk and two slow cores need 20 for the frameworks.
START_SECONDS = 180.0
#: Deaths of one part during the start after which the start fails.
START_DEATHS = 3
#: Time between SIGTERM and SIGKILL for parts other than workers (seconds).
STOP_SECONDS = 10.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Options:
    """Options of `nightshift up`. Port 0 picks a free one."""

    data_dir: Path
    port: int
    flower_port: int
    workers: int | None  # None: one per GPU, or one for the CPU
    device: str  # auto | cpu | gpu


class Stack:
    """All parts. Call `start()`, then `watch()` until a stop is requested, then `drain()`."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self.options, self.say = options, say
        self.data_dir = options.data_dir.resolve()
        self.api_port = choose_port(options.port, "--port")
        self.flower_port = choose_port(options.flower_port, "--flower-port")
        self.redis_port = choose_port(0, "")
        self.stopping = self.hurry = False
        (self.data_dir / "logs").mkdir(parents=True, exist_ok=True)
        redis_argv, self.password = redis_server.prepare(self.data_dir / "redis", self.redis_port)
        self.env = self._environment()
        self.settings = self._settings()
        self.redis = self._part("redis", redis_argv)
        self.redis.render = redis_server.as_json if self.settings.log_format != "console" else None
        self.api = self._module("api", "api.server")
        self.flower = self._module("flower", "api.flower.app")
        self.beat = self._module("beat", "worker.beat")
        self.workers = self._workers()
        self.checks = self._checks()

    @property
    def api_url(self) -> str:
        """Return the URL of the API."""
        return f"http://{LOOPBACK}:{self.api_port}"

    @property
    def flower_url(self) -> str:
        """Return the URL of Flower."""
        return f"http://{LOOPBACK}:{self.flower_port}"

    @property
    def parts(self) -> list[ManagedProcess]:
        """Return the parts in the order of their start."""
        return [self.redis, *self.workers, self.api, self.flower, self.beat]

    # -- definition of the parts ----------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        """Return the environment of every part; a NIGHTSHIFT_DATABASE_URL of the user replaces SQLite."""
        return os.environ | {
            "NIGHTSHIFT_DATA_DIR": str(self.data_dir),
            "NIGHTSHIFT_REDIS_URL": redis_server.url(self.redis_port, self.password),
            "NIGHTSHIFT_API_HOST": LOOPBACK,
            "NIGHTSHIFT_API_PORT": str(self.api_port),
            "NIGHTSHIFT_API_URL": self.api_url,
            "NIGHTSHIFT_FLOWER_HOST": LOOPBACK,
            "NIGHTSHIFT_FLOWER_PORT": str(self.flower_port),
            "PYTHONUNBUFFERED": "1",
        }

    def _settings(self) -> Settings:
        """Return the settings as the parts will read them."""
        return load_settings(data_dir=self.data_dir, redis_url=redis_server.url(self.redis_port, self.password))

    def _part(self, name: str, argv: Sequence[str]) -> ManagedProcess:
        return ManagedProcess(
            name, argv, self.env, self.data_dir / "logs" / f"{name}.log", lambda: name in self.checks.answering
        )

    def _module(self, name: str, module: str, *args: str) -> ManagedProcess:
        return self._part(name, [sys.executable, "-m", module, *args])

    def _checks(self) -> CheckProcess:
        """Return the process that checks the parts: the workers by their rows in SQL, others by what they serve."""
        rows = [f"{part.name}={self._worker_name(part)}" for part in self.workers]
        named = [argument for row in rows for argument in ("--worker", row)]
        return CheckProcess([str(self.data_dir), "--api", self.api_url, "--flower", self.flower_url, *named], self.env)

    def _worker_name(self, part: ManagedProcess) -> str:
        return f"{part.name.removeprefix('worker-')}@{self.settings.host_name}"

    def _workers(self) -> list[ManagedProcess]:
        planned = plan_workers(self.options.device, self.options.workers, self._gpus)
        if any(worker.device == "gpu" for worker in planned):
            refuse_memory_limit(self.settings)
        return [self._worker(worker) for worker in planned]

    def _gpus(self) -> Inventory:
        """Return the GPUs that can be used, and tell which cannot. Raises ConfigurationError."""
        found = choose_gpus("gpu" if self.options.device == "gpu" else "auto")
        for problem in found.problems:
            self.say(f"no worker for {problem}")
        return found

    def _worker(self, planned: PlannedWorker) -> ManagedProcess:
        own = planned.environment
        if self.settings.torch_threads is not None:
            own.pop("NIGHTSHIFT_TORCH_THREADS", None)
        part = self._module(f"worker-{planned.device}{planned.index}", "worker.main", *planned.arguments)
        part.env = {**part.env, **own}
        return part

    # -- start ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all parts and wait until they answer. Raises ConfigurationError with the log of one that does not."""
        started = time.monotonic()
        self.checks.start()
        self._start_redis()
        self._wait_until(lambda: self.checks.is_prepared)
        others = [part for part in self.parts if part is not self.redis]
        for part in others:
            part.start()
        for part in others:
            self._wait_for(part, started)
        data_dir_lock.write_endpoints(self.data_dir, api=self.api_url, flower=self.flower_url)

    def _start_redis(self) -> None:
        """Start Redis; if it cannot read its append-only file, delete that and retry: it held only doorbells."""
        self.redis.start()
        started = time.monotonic()
        try:
            self._wait_for(self.redis, started, deaths=1)
        except ConfigurationError:
            if self.stopping:
                raise
            redis_server.forget(self.data_dir / "redis")
            self.redis.start()
            self._wait_for(self.redis, started)

    def _wait_for(self, part: ManagedProcess, started: float, deaths: int = START_DEATHS) -> None:
        def is_ready() -> bool:
            if part.deaths >= deaths or time.monotonic() - started > START_SECONDS:
                raise ConfigurationError(f"{part.name} does not start; the end of {part.log}:\n{part.log_tail()}")
            return part.alive and part.ready()

        self._wait_until(is_ready)

    def _wait_until(self, true: Callable[[], bool]) -> None:
        while not true():
            if self.stopping:
                raise ConfigurationError("stopped before everything was ready")
            self._look_after()
            self.checks.poll()
            time.sleep(POLL_SECONDS)

    # -- run ------------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Restart parts that die, until a signal handler sets `stopping`; say when workers have loaded a framework."""
        while not self.stopping:
            self._look_after()
            self._tell_loaded()
            time.sleep(POLL_SECONDS * 4)

    def _tell_loaded(self) -> None:
        try:
            self.checks.poll()
        except ConfigurationError as error:  # the stack runs, and only this message is lost
            self.say(str(error))
        while self.checks.loaded:
            worker, frameworks = self.checks.loaded.popitem()
            self.say(f"{worker} has loaded {', '.join(frameworks)}: its jobs start at once")

    def _look_after(self) -> None:
        for part in self.parts:
            how = part.notice_death()
            if how:
                self.say(f"{part.name} ended ({how}); starting it again (log: {part.log})")
            part.restart_if_due()

    # -- stop -----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Stop the workers first, whose jobs checkpoint and return to the queue; then the rest, Redis last."""
        self.checks.stop()
        data_dir_lock.forget_endpoints(self.data_dir)
        self._stop(self.workers, self.settings.drain_seconds + STOP_SECONDS)
        self._stop([self.beat, self.flower, self.api], STOP_SECONDS)
        self._stop([self.redis], STOP_SECONDS)

    def _stop(self, parts: Sequence[ManagedProcess], seconds: float) -> None:
        for part in parts:
            part.signal(signal.SIGTERM)
        give_up_at = time.monotonic() + seconds
        while any(part.alive for part in parts) and time.monotonic() < give_up_at and not self.hurry:
            time.sleep(POLL_SECONDS)
        for part in parts:
            if part.alive:
                self.say(f"{part.name} did not stop in time; killing it")
            part.kill_group()
