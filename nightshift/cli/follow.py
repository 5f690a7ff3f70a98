"""Follow jobs until they end: one thread per job reads its events, the main thread draws."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from rich.console import Console

from nightshift.cli.job_progress import JobProgress
from nightshift.cli.render.output import PIPE_WIDTH
from nightshift.cli.render.screens import LiveScreen, PlainScreen
from nightshift.client.client import Job
from nightshift.client.types import Event
from nightshift.errors import NightshiftError
from nightshift.states import JobState

#: Exit codes of `--follow` and `watch` (the highest of several jobs); 3: the outcome is unknown.
EXIT_CODES = {JobState.SUCCEEDED: 0, JobState.FAILED: 1, JobState.CANCELLED: 2}
OUTCOME_UNKNOWN = 3
#: Default number of log lines per job on a terminal.
LIVE_LOGS = 3


class Dropped:
    """The connection of one job's reader broke; it reconnects."""


#: Index of a job, and a message about it.
Message = tuple[int, "Event | Dropped | Job | NightshiftError"]


def watch(
    jobs: Sequence[Job], out: Console, on_event: Callable[[Job, Event], None] | None = None, *, logs: int | None = None
) -> int:
    """Follow the jobs until they end, on `out` or with `on_event`, and return the exit code.

    `logs` is the number of log lines per job on a terminal; elsewhere all lines are printed unless it is 0.
    KeyboardInterrupt does not stop the jobs.
    """
    watched = [JobProgress.of(job) for job in jobs]
    messages: queue.Queue[Message] = queue.Queue()
    for index, job in enumerate(jobs):
        threading.Thread(target=_read, args=(index, job, messages), daemon=True).start()
    screen = _screen(out, watched, logs, quiet=on_event is not None)
    left = len(jobs)
    with screen:
        while left:
            index, message = messages.get()
            one = watched[index]
            if isinstance(message, Event):
                one.apply(message)
                screen.event(one, message)
                if on_event:
                    on_event(jobs[index], message)
            elif isinstance(message, Dropped):
                _note_drop(one, screen)
            else:
                left -= 1
                _end(one, message, screen)
    return max(OUTCOME_UNKNOWN if one.trouble else EXIT_CODES[JobState(one.state)] for one in watched)


def _screen(out: Console, watched: Sequence[JobProgress], logs: int | None, *, quiet: bool) -> PlainScreen | LiveScreen:
    if quiet:
        return PlainScreen(Console(quiet=True, width=PIPE_WIDTH), False)
    if out.is_terminal and not out.is_dumb_terminal:
        return LiveScreen(out, watched, LIVE_LOGS if logs is None else logs)
    return PlainScreen(out, len(watched) > 1, logs=bool(logs))


def _note_drop(one: JobProgress, screen: PlainScreen | LiveScreen) -> None:
    """Show a dropped connection, once until it is restored."""
    if one.trouble is None:
        one.trouble = "Connection lost; reconnecting. The job continues meanwhile."
        screen.trouble(one)


def _end(one: JobProgress, message: Job | NightshiftError, screen: PlainScreen | LiveScreen) -> None:
    if isinstance(message, Job):
        one.settle(message)
        screen.closed(one)
    else:
        one.trouble = f"{message} The job continues on the server."
        screen.trouble(one)


def _read(index: int, job: Job, messages: queue.Queue[Message]) -> None:
    try:
        for event in job.events(on_drop=lambda _: messages.put((index, Dropped()))):
            messages.put((index, event))
        messages.put((index, job.refresh()))
    except NightshiftError as error:
        messages.put((index, error))
    except Exception as error:  # else `watch` would wait for ever for this thread
        messages.put((index, NightshiftError(f"{type(error).__name__}: {error}")))
