"""Run one Celery worker per GPU, or one for the CPU.

`python -m worker.main [--device auto|cpu|gpu] [--slots N] [--index N] [--required-only]`

With several devices this process only starts a process per device, again if one ends, and forwards SIGTERM. SIGTERM and
Ctrl-C drain: the current job writes a checkpoint and returns to the
queue, without using up a retry, one that is finishing ends, and the process exits within 60 s.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from celery import signals

from nightshift.errors import ConfigurationError
from nightshift.names import FRAMEWORKS, either
from shared import entrypoint, tracing
from shared.celery_app import make_celery, queues_for, refuse_cluster_server
from shared.console import print_error
from shared.db.engine import get_engine
from shared.events import emit
from shared.fleet.cores import threads_of
from shared.fleet.gpus import refuse_memory_limit
from shared.fleet.workers import Usage, WorkerInfo
from shared.logging import configure_logging
from shared.settings import Settings, get_settings
from shared.specs.families import SETTING
from shared.storage import refuse_unusable
from worker.celery_app import pool, queue_guard, redis_transport, remote_control
from worker.celery_app.shutdown import Shutdown
from worker.celery_app.tasks import register_attempt, silence_celery
from worker.device_processes import DeviceProcesses
from worker.hardware import frameworks, plugins
from worker.hardware.devices import Device, choose
from worker.hardware.heartbeat import Activity, WorkerHeartbeat
from worker.hardware.resource_usage import ResourceMonitor
from worker.runners.device_lock import DeviceLock
from worker.runners.forkserver_client import START_SECONDS, ForkserverClient, sanitized_environment
from worker.runners.forkservers import Forkservers
from worker.runners.probe_answer import PROBE_SECONDS
from worker.runners.process_cleanup import SLOT, kill_orphans
from worker.runners.runner_pool import RunnerPool, RunnerSettings
from worker.supervisor.context import WorkerContext
from worker.supervisor.device_health import DeviceHealth
from worker.supervisor.supervisor import Supervisor

#: Seconds after the time for a drain when this worker exits in any case: 50 + 8 keeps the promised 60.
LAST_RESORT_SECONDS = 8.0
#: Seconds after which a GPU worker is online although its frameworks have not all been tried on the device.
TRIED_SECONDS = len(FRAMEWORKS) * (START_SECONDS + PROBE_SECONDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker of the chosen device, or a process per device, and return the exit code."""
    parser = argparse.ArgumentParser(prog="nightshift worker", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--slots", type=int, default=1, help="with --device cpu: workers that share its cores")
    parser.add_argument("--index", type=int, help="only this device of the host, counted from 0")
    parser.add_argument(
        "--required-only", action="store_true", help="take only jobs that require this device, none for any device"
    )
    options = parser.parse_args(argv)
    configure_logging(get_settings(), "worker")
    tracing.setup("worker")
    takes_auto = not options.required_only
    try:
        refuse_cluster_server(get_settings())
        refuse_unusable(get_settings())
        devices = choose(options.device, options.index, options.slots)
        if len(devices) > 1:
            return DeviceProcesses(devices, get_settings(), takes_auto).run()
        return run(devices[0], get_settings(), takes_auto)
    except ConfigurationError as error:
        print_error(f"nightshift worker: {error}")
        return 2


def run(device: Device, settings: Settings, takes_auto: bool = True) -> int:
    """Run this process as the worker of one device until it is stopped."""
    if device.kind == "gpu":
        refuse_memory_limit(settings)
    os.environ.update(device.environment())
    redis_transport.install()
    remote_control.install()
    slot = DeviceLock.of(device, settings)
    forkservers = Forkservers(make_clients(device, settings, slot), settings.forkserver_idle_seconds)
    if not forkservers.frameworks:
        wanted = settings.frameworks or either(FRAMEWORKS)
        raise ConfigurationError(f"{wanted} is not installed here: pip install 'nightshift[torch]'")
    runners = RunnerPool(forkservers, runner_settings(device, settings, slot), keep_spare=settings.preload)
    found = plugins.usable(settings, runners.frameworks)
    name = device.worker_name(settings.host_name)
    health = DeviceHealth(name, runners, settings) if device.kind == "gpu" else None
    context = WorkerContext(name, device, get_engine(), settings, runners, found, health, takes_auto)
    supervisor = Supervisor(context)
    kill_orphans(str(slot.path))
    if health is not None:
        warm_first(context)
        threading.Thread(target=health.try_first, name="device-first", daemon=True).start()

    def close() -> None:
        if health is not None:
            health.close()
        runners.close()
        forkservers.close()

    try:
        return serve(context, supervisor, close)
    finally:
        close()


def make_clients(device: Device, settings: Settings, slot: DeviceLock) -> dict[str, ForkserverClient]:
    """Return a client of a forkserver, not started, for each framework that this worker serves."""
    own = {**frameworks.forkserver_environment(threads_of(settings)), **device.environment(), SLOT: str(slot.path)}
    env = sanitized_environment(os.environ, {**own, SETTING: settings.families})
    return {
        name: ForkserverClient(
            name,
            frameworks.preloads(name, settings.preload),
            env,
            plugins.modules(settings, name) if settings.preload else None,
        )
        for name in frameworks.served(settings.frameworks)
    }


def runner_settings(device: Device, settings: Settings, slot: DeviceLock) -> RunnerSettings:
    """Return the settings of this worker's runners."""
    return RunnerSettings(device.kind, threads_of(settings), settings.runner_memory_limit_bytes, slot)


def warm_first(context: WorkerContext) -> None:
    """Load the first framework that works in the background, unless the settings leave that to the first job."""
    working = [name for name in context.runners.installed if name in context.runners.frameworks]
    if context.settings.warm_at_start and working:
        context.runners.warm_in_background(working[0])


def serve(context: WorkerContext, supervisor: Supervisor, close: Callable[[], None]) -> int:
    """Run the Celery worker until it exits, and return its exit code. `close` ends the runners and forkservers."""
    silence_celery()
    app = make_celery(context.settings, "worker")
    register_attempt(app, supervisor.run_one)
    heartbeat = make_heartbeat(context, supervisor)
    pool.on_terminate, pool.on_stop = supervisor.terminate, supervisor.drain
    supervisor.on_device_free = pool.free_device
    queue_guard.on_change = heartbeat.set_listening
    on_change = partial(follow, context, supervisor, heartbeat)
    context.runners.follow(on_change)
    supervisor.disk.on_change = on_change
    if context.health is not None:
        context.health.on_change = on_change
    on_change()  # it may have tried the frameworks already
    queues, restore_after = queues_for(context.device.kind, context.takes_auto), context.settings.maintenance_seconds
    celery_worker = queue_guard.make_worker(app, context.name, queues, pool.AttemptPool, restore_after)
    shutdown = Shutdown(supervisor.wait_idle, heartbeat.stop, close)
    connect(context, supervisor, heartbeat, shutdown)
    try:
        celery_worker.start()
    finally:
        shutdown.celery_has_left()
        heartbeat.stop()
    return int(celery_worker.exitcode or 0)


def make_heartbeat(context: WorkerContext, supervisor: Supervisor) -> WorkerHeartbeat:
    """Return the worker's heartbeat, which also sees when the driver loses its device, and when the disk is full."""
    monitor, health = ResourceMonitor(context.device), context.health

    def usage() -> Usage:
        found = monitor.read()
        supervisor.disk.is_full()
        if health is not None:
            health.hear_driver(monitor.lost)
            health.hear_peers()
        return replace(found, loaded=context.runners.warm if context.settings.preload else [])

    def current() -> Activity:
        return Activity(supervisor.job_id, supervisor.draining, context.left_because, supervisor.disk.full_because)

    info, seconds = worker_info(context), context.settings.heartbeat_seconds

    def worker() -> WorkerInfo:
        runners = context.runners
        return replace(info, frameworks=sorted(runners.frameworks), unusable=dict(runners.unusable))

    return WorkerHeartbeat(context.engine, worker, seconds, current, usage)


def follow(context: WorkerContext, supervisor: Supervisor, heartbeat: WorkerHeartbeat) -> None:
    """Take doorbells only while a framework works on the device and the disk has room, and say so."""
    queue_guard.leave(context.left_because is not None or supervisor.disk.full_because is not None)
    heartbeat.tell()


def connect(context: WorkerContext, supervisor: Supervisor, heartbeat: WorkerHeartbeat, shutdown: Shutdown) -> None:
    """Connect handlers to Celery's signals, strongly: weak references would let closures be collected."""

    def ready(**_: Any) -> None:
        # Ctrl-C would make Celery cancel its tasks; here it drains like SIGTERM.
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
        if context.health is not None:
            context.health.tried.wait(TRIED_SECONDS)
        heartbeat.start()
        emit("worker.ready", worker=context.name, device=context.device.name)
        warm_first(context)  # now, because it would slow down the start of this worker and of its neighbors
        context.runners.idle()

    def shutting_down(**_: Any) -> None:
        supervisor.drain()
        seconds = context.settings.drain_seconds + LAST_RESORT_SECONDS
        last_resort = threading.Timer(seconds, os._exit, (1,))
        last_resort.daemon = True
        last_resort.start()
        shutdown.begin()

    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)


def worker_info(context: WorkerContext) -> WorkerInfo:
    """Return the worker's row of the fleet table, without the frameworks, which depend on its device."""
    return WorkerInfo(
        name=context.name,
        host=context.settings.host_name,
        pid=os.getpid(),
        device=context.device.kind,
        device_name=context.device.name,
        device_uuid=context.device.uuid,
        memory_bytes=context.device.memory_bytes,
        plugins=list(context.plugins),
        takes_auto=context.takes_auto,
        labels=context.settings.labels.split(",") if context.settings.labels else [],
        versions=frameworks.versions(),
    )


if __name__ == "__main__":
    entrypoint.run("worker", main)
