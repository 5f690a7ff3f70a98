"""`python -m worker.main [--device auto|cpu|gpu] [--index N]`: one Celery worker per GPU, or one for the CPU.

With several devices this process only starts a process per device, passes SIGTERM on and waits: it restarts nothing,
that is the launcher's or the container runtime's work. SIGTERM and Ctrl-C drain: the present job writes a checkpoint
and goes back to the queue, nothing is charged, and the process leaves within 60 s.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from celery import Celery, signals

from nightshift.errors import ConfigurationError
from shared import entrypoint, tracing
from shared.celery_app import make_celery, queues_for, refuse_cluster_server
from shared.console import print_error
from shared.db.engine import get_engine
from shared.events import emit
from shared.fleet.workers import WorkerInfo
from shared.logging import configure_logging
from shared.settings import Settings, get_settings
from shared.storage import refuse_unusable
from worker.celery_app import pool, queue_guard, redis_transport, remote_control
from worker.celery_app.tasks import hush_celery, register_attempt
from worker.hardware import frameworks
from worker.hardware.devices import Device, choose
from worker.hardware.heartbeat import WorkerHeartbeat
from worker.hardware.resource_usage import ResourceMonitor
from worker.runners.device_lock import DeviceLock
from worker.runners.forkserver_client import START_SECONDS, ForkserverClient, sanitized_environment
from worker.runners.process_cleanup import SLOT, kill_orphans
from worker.runners.runner_pool import RunnerPool, RunnerSettings
from worker.supervisor.context import WorkerContext
from worker.supervisor.supervisor import Supervisor

#: After the time for a drain this worker leaves whatever still hangs (seconds): 50 + 8 keeps the promised 60.
LAST_RESORT_SECONDS = 8.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nightshift worker", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--index", type=int, help="only this device of the host, counted from 0")
    options = parser.parse_args(argv)
    configure_logging(get_settings(), "worker")
    tracing.setup("worker")
    try:
        refuse_cluster_server(get_settings())
        refuse_unusable(get_settings())
        devices = choose(options.device, options.index)
        if len(devices) > 1:
            return run_each(devices)
        return run(devices[0], get_settings())
    except ConfigurationError as error:
        print_error(f"nightshift worker: {error}")
        return 2


def run_each(devices: Sequence[Device]) -> int:
    """A process per device: CUDA_VISIBLE_DEVICES is read once per process."""
    children = [
        subprocess.Popen([sys.executable, "-m", "worker.main", "--device", device.kind, "--index", str(device.index)])
        for device in devices
    ]

    def pass_on(number: int, _frame: object) -> None:
        for child in children:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    return max(abs(child.wait()) for child in children)


def run(device: Device, settings: Settings) -> int:
    """This process as the worker of one device, until it is told to leave."""
    os.environ.update(device.environment())
    redis_transport.install()
    remote_control.install()
    slot = DeviceLock.of(device, settings)
    forkservers = make_forkservers(device, settings, slot)
    if not forkservers:
        wanted = settings.frameworks or "torch or tensorflow"
        raise ConfigurationError(f"{wanted} is not installed here: pip install 'nightshift[torch]'")
    runners = RunnerPool(forkservers, runner_settings(device, settings, slot), keep_spare=settings.preload)
    place = WorkerContext(device.worker_name(settings.host_name), device, get_engine(), settings, runners)
    supervisor = Supervisor(place)
    kill_orphans(str(slot.path))
    starter = threading.Thread(target=start_in_turn, args=(list(forkservers.values()),), daemon=True)
    starter.start()
    try:
        return serve(place, supervisor, next(iter(forkservers.values())))
    finally:
        runners.close()
        for forkserver in forkservers.values():
            forkserver.close()


def make_forkservers(device: Device, settings: Settings, slot: DeviceLock) -> dict[str, ForkserverClient]:
    ours = {**frameworks.forkserver_environment(settings.torch_threads), **device.environment(), SLOT: str(slot.path)}
    env = sanitized_environment(os.environ, ours)
    return {
        name: ForkserverClient(name, frameworks.preloads(name, settings.preload), env)
        for name in frameworks.served(settings.frameworks)
    }


def runner_settings(device: Device, settings: Settings, slot: DeviceLock) -> RunnerSettings:
    threads = settings.torch_threads or os.cpu_count()
    return RunnerSettings(device.kind, threads, settings.runner_memory_limit_bytes, slot)


def start_in_turn(forkservers: Sequence[ForkserverClient]) -> None:
    """One after the other: two imports at once would make the first one, which the worker waits for, slow."""
    for forkserver in forkservers:
        forkserver.start()
        forkserver.wait_ready(START_SECONDS)


def serve(place: WorkerContext, supervisor: Supervisor, first: ForkserverClient) -> int:
    hush_celery()
    app = make_celery(place.settings, "worker")
    register_attempt(app, supervisor.run_one)
    presence = WorkerHeartbeat(
        place.engine,
        worker_info(place),
        place.settings.heartbeat_seconds,
        lambda: (supervisor.job_id, supervisor.draining),
        ResourceMonitor(place.device).read,
    )
    pool.on_terminate, pool.on_stop = supervisor.terminate, supervisor.drain
    queue_guard.on_change = presence.listens
    celery_worker = make_worker(app, place)
    connect(place, supervisor, presence, first)
    try:
        celery_worker.start()
    finally:
        presence.stop()
    return int(celery_worker.exitcode or 0)


def make_worker(app: Celery, place: WorkerContext) -> Any:
    queue_guard.install(app, place.settings.maintenance_seconds)
    return app.Worker(
        hostname=place.name,
        pool_cls=pool.AttemptPool,
        concurrency=1,
        queues=queues_for(place.device.kind),
        task_events=True,  # for Flower
        without_mingle=True,  # nothing of ours is revoked through Celery, and it costs a second at start
        without_gossip=True,
        quiet=True,
    )


def connect(place: WorkerContext, supervisor: Supervisor, presence: WorkerHeartbeat, first: ForkserverClient) -> None:
    """What happens at Celery's signals. Weak references would let closures be collected."""

    def ready(**_: Any) -> None:
        # Ctrl-C would make Celery cancel its tasks; here it drains like SIGTERM.
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
        # Online means: the next job starts at once. The first framework's forkserver is warm by then.
        first.wait_ready(START_SECONDS)
        place.runners.idle()
        presence.start()
        emit("worker.ready", worker=place.name, device=place.device.name)

    def leaving(**_: Any) -> None:
        supervisor.drain()
        seconds = place.settings.drain_seconds + LAST_RESORT_SECONDS
        last_resort = threading.Timer(seconds, os._exit, (1,))
        last_resort.daemon = True
        last_resort.start()

    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(leaving, weak=False)


def worker_info(place: WorkerContext) -> WorkerInfo:
    return WorkerInfo(
        name=place.name,
        host=place.settings.host_name,
        pid=os.getpid(),
        device=place.device.kind,
        device_name=place.device.name,
        device_uuid=place.device.uuid,
        memory_bytes=place.device.memory_bytes,
        frameworks=sorted(place.runners.frameworks),
        versions=frameworks.versions(),
    )


if __name__ == "__main__":
    entrypoint.run("worker", main)
