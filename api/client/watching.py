"""Following jobs: events folded into what is known of each job, drawn as live bars or printed as plain lines."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api.client.output import PIPE_WIDTH, duration, filled, metric_facts, number, state_text
from api.client.sdk import Job
from api.client.shapes import Event
from shared.errors import NightshiftError
from shared.jobs.states import FINAL_STATES, JobState

#: Exit codes of `--follow` and `watch` (the worst of several jobs); 3: the outcome could not be learnt.
EXIT_CODES = {JobState.SUCCEEDED: 0, JobState.FAILED: 1, JobState.CANCELLED: 2}
OUTCOME_UNKNOWN = 3
#: A plain line is printed at least so often (percent of the job).
PLAIN_EVERY_PERCENT = 10.0
#: What stays true of progress when an attempt ends; speed and time left do not.
LASTING = ("step", "total_steps", "epoch")
#: Metrics that say nothing about the outcome.
RATES = ("samples_per_second", "learning_rate")
#: Metrics worth a place on the line, in this order.
SHOWN = ("loss", "accuracy", "perplexity", "g_loss", "d_loss", "val_loss", "val_accuracy", "val_perplexity")


@dataclass
class Watched:
    """What is known of one job. `apply` folds an event in."""

    id: str
    title: str = ""
    state: str = "queued"
    epochs: int | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    attempt: int = 0
    stop_requested: str | None = None
    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    trouble: str | None = None

    @classmethod
    def of(cls, job: Job) -> Watched:
        spec = job.data.get("spec") or {}
        what = [job.data.get("kind"), job.data.get("family") or spec.get("model_ref"), job.data.get("dataset")]
        title = job.data.get("name") or " ".join(str(word) for word in what if word)
        return cls(job.id, title, epochs=(spec.get("training") or {}).get("epochs"))

    def apply(self, event: Event) -> None:
        if event.type == "state":
            self.state = event.data.get("state", self.state)
            if self.state != JobState.RUNNING or event.data.get("attempt") != self.attempt:
                self.progress = {name: self.progress[name] for name in LASTING if name in self.progress}
            self.attempt = event.data.get("attempt") or self.attempt
            self.stop_requested = event.data.get("stop_requested")
        elif event.type == "progress":
            self.progress = event.data
            if event.data.get("loss") is not None:
                self.metrics["loss"] = event.data["loss"]
        elif event.type == "metric":
            self.metrics[event.data["name"]] = event.data["value"]

    def settle(self, job: Job) -> None:
        """The job's final word, which is truer than what was heard on the way."""
        self.state, self.error, self.result = str(job.state), job.error, job.result
        self.progress = {**self.progress, **(job.progress or {})}

    @property
    def fraction(self) -> float | None:
        if self.state == JobState.SUCCEEDED:
            return 1.0
        step, total = self.progress.get("step"), self.progress.get("total_steps")
        return min(1.0, step / total) if step is not None and total else None

    @property
    def standing(self) -> tuple[str, int, str | None]:
        """What a watcher is told of at once when it changes."""
        return self.state, self.attempt, self.stop_requested

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    def facts(self) -> list[str]:
        """`step 120/450`, `epoch 2/5`, `loss 0.2134`, … as far as they are known."""
        facts, step, total = [], self.progress.get("step"), self.progress.get("total_steps")
        if step is not None:
            facts.append(f"step {step:,}/{total:,}" if total else f"step {step:,}")
        if self.progress.get("epoch") is not None:
            facts.append(f"epoch {self.progress['epoch']}" + (f"/{self.epochs}" if self.epochs else ""))
        facts += [f"{name} {number(self.metrics[name])}" for name in SHOWN if name in self.metrics]
        if self.state == JobState.RUNNING:
            facts += [f"attempt {self.attempt}"] if self.attempt > 1 else []
            facts += [f"{self.stop_requested} requested"] if self.stop_requested else []
            facts += [phase] if (phase := self.progress.get("phase")) and phase != "train" else []
            if rate := self.progress.get("samples_per_second"):
                facts.append(f"{number(round(rate))}/s")
            if (eta := self.progress.get("eta_seconds")) is not None:
                facts.append(f"ETA {duration(eta)}")
        return facts

    def closing(self) -> list[str]:
        """How it ended: the error, or the result's metrics."""
        if self.error:
            return [f"{self.error.get('type')}: {self.error.get('message')}"]
        metrics = (self.result or {}).get("metrics") or {}
        news = {name: value for name, value in metrics.items() if name not in (*SHOWN, *RATES)}
        return metric_facts(news or metrics)


# -- plain lines (a pipe, a dumb terminal) --------------------------------------------------------


class PlainScreen:
    """A line when the state changes, when a validation is in, and every tenth of the way."""

    def __init__(self, out: Console, several: bool) -> None:
        self._out, self._several = out, several
        self._seen: dict[str, tuple[tuple[str, int, str | None], float]] = {}
        self._validated: set[str] = set()

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def heard(self, watched: Watched, event: Event) -> None:
        standing, (before, fraction) = watched.standing, self._seen.get(watched.id, (None, 0.0))
        now = watched.fraction or 0.0
        if event.type == "metric" and str(event.data.get("name", "")).startswith("val_"):
            self._validated.add(watched.id)  # several come at once: one line, at the next event
            return
        validated = event.type != "metric" and watched.id in self._validated
        far = event.type == "progress" and (now - fraction) * 100 >= PLAIN_EVERY_PERCENT
        if standing != before or validated or far:
            self._validated.discard(watched.id)
            self._seen[watched.id] = (standing, now if far else fraction)
            self._line(watched, watched.facts())

    def closed(self, watched: Watched) -> None:
        if closing := watched.closing():
            self._line(watched, closing)

    def remark(self, watched: Watched) -> None:
        self._line(watched, [watched.trouble or ""])

    def _line(self, watched: Watched, facts: list[str]) -> None:
        name = f"{watched.id}  " if self._several else ""
        self._out.print(Text(f"{name}{watched.state:<9}  {'  '.join(facts)}".rstrip()), soft_wrap=True)


# -- live bars (a terminal) -----------------------------------------------------------------------


class LiveScreen:
    """One block per job: a title line with the bar, and below it what is known, as the width allows."""

    def __init__(self, out: Console, watched: Sequence[Watched]) -> None:
        self._out, self._watched = out, watched
        self._live = Live(console=out, get_renderable=self._draw, refresh_per_second=8, transient=False)

    def __enter__(self) -> LiveScreen:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(None, None, None)

    def heard(self, watched: Watched, event: Event) -> None:
        """The next frame shows it; likewise below."""

    def closed(self, watched: Watched) -> None:
        pass

    def remark(self, watched: Watched) -> None:
        pass

    def _draw(self) -> RenderableType:
        return Group(*(block(watched, self._out.width) for watched in self._watched))


def block(watched: Watched, width: int) -> RenderableType:
    fraction = watched.fraction
    percent = f"{fraction * 100:3.0f}%" if fraction is not None else "    "
    title = f"{watched.id[:8]} {watched.title}"
    room = max(12, width - 9 - 4 - 4 - 12)
    head = Table.grid(padding=(0, 1, 0, 0))
    head.add_column(no_wrap=True, overflow="ellipsis", max_width=min(room, max(len(title), 8)))
    head.add_column(no_wrap=True)
    head.add_column()
    head.add_column(no_wrap=True)
    bar_width = max(10, min(40, width - min(room, len(title)) - 9 - 4 - 4))
    bar = ProgressBar(
        total=1.0, completed=fraction or 0.0, width=bar_width, pulse=watched.state == "running" and fraction is None
    )
    head.add_row(Text(title, "bold"), state_text(watched.state), bar, Text(percent))
    below = [Text(line, "dim") for line in filled(watched.facts(), width - 2)]
    if watched.trouble:
        below.append(Text(watched.trouble, "yellow"))
    if watched.is_final:
        below += [Text(line, "red" if watched.error else "green") for line in filled(watched.closing(), width - 2)]
    return Group(head, Padding(Group(*below), (0, 0, 0, 2)))


# -- watching -------------------------------------------------------------------------------------

Heard = tuple[int, "Event | Job | NightshiftError"]


def watch(jobs: Sequence[Job], out: Console, on_event: Callable[[Job, Event], None] | None = None) -> int:
    """Follows all jobs to their end on `out` (or hands their events to `on_event`); the exit code.

    One thread per job listens, this one draws. KeyboardInterrupt leaves the jobs running.
    """
    watched = [Watched.of(job) for job in jobs]
    heard: queue.Queue[Heard] = queue.Queue()
    for index, job in enumerate(jobs):
        threading.Thread(target=_listen, args=(index, job, heard), daemon=True).start()
    lively = out.is_terminal and not out.is_dumb_terminal
    screen: PlainScreen | LiveScreen = LiveScreen(out, watched) if lively else PlainScreen(out, len(jobs) > 1)
    if on_event:
        screen = PlainScreen(Console(quiet=True, width=PIPE_WIDTH), False)
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
            else:
                left -= 1
                _end(one, message, screen)
    return max(OUTCOME_UNKNOWN if one.trouble else EXIT_CODES[JobState(one.state)] for one in watched)


def _end(one: Watched, message: Job | NightshiftError, screen: PlainScreen | LiveScreen) -> None:
    if isinstance(message, Job):
        one.settle(message)
        screen.closed(one)
    else:
        one.trouble = f"{message} The job goes on without us."
        screen.remark(one)


def _listen(index: int, job: Job, heard: queue.Queue[Heard]) -> None:
    try:
        for event in job.events():
            heard.put((index, event))
        heard.put((index, job.refresh()))
    except NightshiftError as error:
        heard.put((index, error))
    except Exception as error:  # a thread that dies silently would leave the watcher waiting for ever
        heard.put((index, NightshiftError(f"{type(error).__name__}: {error}")))
