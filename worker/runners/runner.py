"""The process of one attempt: reads the assignment, runs the job's kind, sends the result and exits.

Any exception becomes one Failed frame here. Other ends (a signal, `os._exit`, the OOM killer) are known from the
forkserver's wait status.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from shared.fleet.gpus import VISIBLE
from worker import kinds
from worker.hardware.frameworks import framework_of
from worker.hardware.gpu_memory import peak_bytes
from worker.runners.device_probe import probe
from worker.runners.failures import failure
from worker.runners.messages import Assignment, Failed, Finishing, Result, Stopped, WarmUp
from worker.runners.reporter import Channel, Reporter

#: Seconds before the leader of a gang reports an error: if another rank has died, which is the reason then, the agent
#: ends this one meanwhile.
PEER_SECONDS = 1.0


def main(sock: socket.socket, options: Mapping[str, Any]) -> NoReturn:
    """Serve one assignment and exit, with 0 after any last frame was sent."""
    channel = Channel(sock)
    if "probe" in options:
        channel.start()
        if (device_id := options.get("of")) is not None:
            os.environ[VISIBLE] = device_id  # another one than the worker's own; nothing has asked for a GPU yet
        Reporter(channel).end(probe(options["probe"]))
        exit_now(0)
    assignment = channel.receive_assignment(_warm_up)
    if assignment is None:  # a spare that is not needed any more
        exit_now(0)
    if assignment.devices:
        exit_like(agent_of(assignment).run(assignment, lambda: serve(channel, assignment), channel.say))
    serve(channel, assignment)
    exit_now(0)


def serve(channel: Channel, assignment: Assignment) -> bool:
    """Run an assignment and report it to the supervisor, up to the last frame; return False if that is an error."""
    channel.start()
    reporter = Reporter(channel)
    ended = run(assignment, reporter)
    has_failed = isinstance(ended, Failed)
    if assignment.devices and has_failed:
        time.sleep(PEER_SECONDS)
    reporter.end(ended.model_copy(update={"peak_device_memory_bytes": peak_bytes()}))
    return not has_failed


def agent_of(assignment: Assignment) -> ModuleType:
    """Return the module that runs a gang in its framework."""
    return import_module(f"worker.runners.{framework_of(assignment.spec)}_agent")


def exit_like(status: int) -> NoReturn:
    """Exit with a code, or by the signal of a negative one."""
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    exit_now(status)


def _warm_up(asked: WarmUp) -> None:
    """Warm up a spare. An error leaves the runner cold; if it matters, the job raises it again."""
    try:
        from worker.runners.warmup import warm_up

        warm_up(asked.framework, asked.device, asked.threads)
    except Exception:
        return


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped | Failed | Finishing:
    """Run the assigned part of the job, and return any exception as a Failed frame."""
    try:
        os.makedirs(assignment.work_dir, exist_ok=True)
        os.chdir(assignment.work_dir)
        return kinds.run_part(assignment, reporter)
    except BaseException as error:
        framework = framework_of(assignment.spec)
        return failure(error, assignment.secrets.values(), assignment.device, framework)


def exit_now(code: int) -> NoReturn:
    """Exit without atexit handlers and library destructors, which may hang; all results are on disk."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)
