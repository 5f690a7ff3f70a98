"""Output of `watch`: live blocks on a terminal, plain lines on a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nightshift.cli.job_progress import JobProgress
from nightshift.cli.render.chart import spark
from nightshift.cli.render.output import filled, log_line, state_text
from nightshift.client.types import Event

#: Progress after which a plain line is printed (percent).
PLAIN_EVERY_PERCENT = 10.0
#: Largest number of lines of a block without its log: title, facts, curves.
BLOCK_LINES = 4
#: Largest width of a curve (characters).
CURVE_WIDTH = 40

# -- plain lines (a pipe, a dumb terminal) --------------------------------------------------------


class PlainScreen:
    """Output of a line when the state changes, after a validation, and every 10 % of progress."""

    def __init__(self, out: Console, several: bool, logs: bool = False) -> None:
        self._out, self._several, self._logs = out, several, logs
        self._seen: dict[str, tuple[tuple[str, int, str | None], float]] = {}
        self._validated: set[str] = set()

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def event(self, watched: JobProgress, event: Event) -> None:
        """Print an event, if it is worth a line."""
        standing, (before, fraction) = watched.standing, self._seen.get(watched.id, (None, 0.0))
        now = watched.fraction or 0.0
        if event.type == "log":
            if self._logs:
                self._print(watched, f"log        {log_line(event.at, event.data)}")
            return
        if event.type == "metric" and str(event.data.get("name", "")).startswith("val_"):
            self._validated.add(watched.id)  # several arrive at once: one line, at the next event
            return
        validated = event.type != "metric" and watched.id in self._validated
        far = event.type == "progress" and (now - fraction) * 100 >= PLAIN_EVERY_PERCENT
        if standing != before or validated or far:
            self._validated.discard(watched.id)
            self._seen[watched.id] = (standing, now if far else fraction)
            self._line(watched, watched.facts())

    def closed(self, watched: JobProgress) -> None:
        """Print how a job ended."""
        if closing := watched.closing():
            self._line(watched, closing)

    def trouble(self, watched: JobProgress) -> None:
        """Print why no events arrive."""
        self._line(watched, [watched.trouble or ""])

    def _line(self, watched: JobProgress, facts: list[str]) -> None:
        self._print(watched, f"{watched.state:<9}  {'  '.join(facts)}")

    def _print(self, watched: JobProgress, line: str) -> None:
        name = f"{watched.id}  " if self._several else ""
        self._out.print(Text(f"{name}{line}".rstrip()), soft_wrap=True)


# -- live bars (a terminal) -----------------------------------------------------------------------


class LiveScreen:
    """A live block per job: a title line with the progress bar, and below it facts, curves and log lines."""

    def __init__(self, out: Console, watched: Sequence[JobProgress], logs: int = 0) -> None:
        self._out, self._watched, self._logs = out, watched, logs
        self._live = Live(console=out, get_renderable=self._draw, refresh_per_second=8, transient=False)

    def __enter__(self) -> LiveScreen:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(None, None, None)

    def event(self, watched: JobProgress, event: Event) -> None:
        """Do nothing: the next frame shows it."""

    def closed(self, watched: JobProgress) -> None:
        """Do nothing: the next frame shows it."""

    def trouble(self, watched: JobProgress) -> None:
        """Do nothing: the next frame shows it."""

    def _draw(self) -> RenderableType:
        return Group(*(block(watched, self._out.width, self._log_lines) for watched in self._watched))

    @property
    def _log_lines(self) -> int:
        """Number of log lines per job, so that all jobs fit the terminal."""
        left = self._out.height - len(self._watched) * (BLOCK_LINES + 1)
        return max(0, min(self._logs, left // len(self._watched)))


def block(watched: JobProgress, width: int, logs: int = 0) -> RenderableType:
    """Return the block of a job, with its last `logs` log lines."""
    fraction = watched.fraction
    percent = f"{fraction * 100:3.0f}%" if fraction is not None else "    "
    title = f"{watched.id[:8]} {watched.title}"
    title_width = max(12, width - 9 - 4 - 4 - 12)
    head = Table.grid(padding=(0, 1, 0, 0))
    head.add_column(no_wrap=True, overflow="ellipsis", max_width=min(title_width, max(len(title), 8)))
    head.add_column(no_wrap=True)
    head.add_column()
    head.add_column(no_wrap=True)
    bar_width = max(10, min(40, width - min(title_width, len(title)) - 9 - 4 - 4))
    bar = ProgressBar(
        total=1.0, completed=fraction or 0.0, width=bar_width, pulse=watched.state == "running" and fraction is None
    )
    head.add_row(Text(title, "bold"), state_text(watched.state), bar, Text(percent))
    below = [Text(line, "dim") for line in filled(watched.facts(), width - 2)]
    below += _curves(watched, width - 2)
    if not watched.is_final:
        below += [Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in _last_logs(watched, logs)]
    if watched.trouble:
        below.append(Text(watched.trouble, "yellow"))
    if watched.is_final:
        below += [Text(line, "red" if watched.error else "green") for line in filled(watched.closing(), width - 2)]
    return Group(head, Padding(Group(*below), (0, 0, 0, 2)))


def _curves(watched: JobProgress, width: int) -> list[Text]:
    """Return the sparklines side by side; none if the terminal is too narrow."""
    found = list(watched.shown_curves())
    if not found:
        return []
    curve_width = min(CURVE_WIDTH, width // len(found) - max(len(name) for name, _ in found) - 3)
    if curve_width < 8:
        return []
    return [Text("  ".join(f"{name} {spark(values, curve_width)}" for name, values in found), "cyan")]


def _last_logs(watched: JobProgress, count: int) -> list[str]:
    return [f"│ {log_line(event.at, event.data)}" for event in list(watched.logs)[-count:]] if count else []
