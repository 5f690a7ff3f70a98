"""`nightshift up`: lock the data folder, start the parts, print `ready:`, watch them, drain."""

from __future__ import annotations

import signal
from types import FrameType

from api.launcher import data_dir_lock
from api.launcher.stack import Options, Stack
from nightshift.errors import ConfigurationError, NightshiftError
from shared import console
from shared.console import print_error
from shared.entrypoint import restrict_umask
from shared.settings import Settings, get_settings

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(message: str) -> None:
    """Print to stderr; only the `ready:` line goes to stdout, where scripts can read it."""
    print_error(message, "info")


def up(options: Options) -> int:
    """Run the stack; return 0 after a requested stop, 1 if it cannot run."""
    console.configure("up")
    try:
        restrict_umask(get_settings().umask, options.data_dir)
        with data_dir_lock.held(options.data_dir.resolve()):
            return _run(Stack(options, say))
    except NightshiftError as error:
        print_error(f"nightshift up: {error}")
        return 1


def _run(stack: Stack) -> int:
    """Run the parts, and stop all of them before this returns or raises."""
    _stop_on_signals(stack)
    try:
        say(
            f"starting Redis, {len(stack.workers)} worker(s), the API, Flower and beat (logs: "
            f"{stack.data_dir / 'logs'})"
        )
        stack.start()
        print(f"ready: api={stack.api_url} flower={stack.flower_url} data={stack.data_dir}", flush=True)
        say(about_frameworks(stack.settings))
        stack.watch()
    except ConfigurationError:
        if not stack.stopping:
            raise
    finally:
        if any(part.alive for part in stack.workers):
            say("draining: running jobs checkpoint and return to the queue (Ctrl-C again: kill them)")
        stack.drain()
    say(f"stopped; start again with the same --data-dir to continue ({stack.data_dir})")
    return 0


def about_frameworks(settings: Settings) -> str:
    """Return what a job that is submitted now waits for."""
    if not settings.preload:
        return "each job loads its framework itself (NIGHTSHIFT_PRELOAD is off)"
    if not settings.warm_at_start:
        return "jobs are accepted; a worker loads a framework when the first job needs it"
    return "jobs are accepted; the workers load a framework in the background, and a job that comes sooner waits for it"


def _stop_on_signals(stack: Stack) -> None:
    """Drain on the first signal; kill the remaining parts on a second one."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        stack.hurry = stack.stopping
        stack.stopping = True

    for number in _STOP_SIGNALS:
        signal.signal(number, on_signal)
