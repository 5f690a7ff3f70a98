"""Following jobs to their end: one thread per job listens, the caller's draws."""

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

#: Exit codes of `--follow` and `watch` (the worst of several jobs); 3: the outcome could not be learnt.
EXIT_CODES = {JobState.SUCCEEDED: 0, JobState.FAILED: 1, JobState.CANCELLED: 2}
OUTCOME_UNKNOWN = 3
#: Log lines of each job on a terminal, unless told otherwise.
LIVE_LOGS = 3


class Dropped:
    """The connection of one job's listener broke; it tries again."""


Heard = tuple[int, "Event | Dropped | Job | NightshiftError"]


def watch(
    jobs: Sequence[Job], out: Console, on_event: Callable[[Job, Event], None] | None = None, *, logs: int | None = None
) -> int:
    """Follows all jobs to their end on `out` (or hands their events to `on_event`); the exit code.

    `logs` is the number of log lines a terminal shows of each job; other outputs get them all when it is not 0.
    KeyboardInterrupt leaves the jobs running.
    """
    watched = [JobProgress.of(job) for job in jobs]
    heard: queue.Queue[Heard] = queue.Queue()
    for index, job in enumerate(jobs):
        threading.Thread(target=_listen, args=(index, job, heard), daemon=True).start()
    screen = _screen(out, watched, logs, quiet=on_event is not None)
    left = len(jobs)
    with screen:
        while left:
            index, message = heard.get()
            one = watched[index]
            if isinstance(message, Event):
                one.apply(message)
                screen.heard(one, message)
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
    """Once per break, however many tries it takes."""
    if one.trouble is None:
        one.trouble = "The connection is lost; trying again. The job goes on meanwhile."
        screen.remark(one)


def _end(one: JobProgress, message: Job | NightshiftError, screen: PlainScreen | LiveScreen) -> None:
    if isinstance(message, Job):
        one.settle(message)
        screen.closed(one)
    else:
        one.trouble = f"{message} The job goes on without us."
        screen.remark(one)


def _listen(index: int, job: Job, heard: queue.Queue[Heard]) -> None:
    try:
        for event in job.events(on_drop=lambda _: heard.put((index, Dropped()))):
            heard.put((index, event))
        heard.put((index, job.refresh()))
    except NightshiftError as error:
        heard.put((index, error))
    except Exception as error:  # a thread that dies silently would leave the watcher waiting for ever
        heard.put((index, NightshiftError(f"{type(error).__name__}: {error}")))
