"""How an attempt behaves beside its results: threads and processes that it leaves, and what it prints."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

#: Most bytes that a run may print: once, and for each of its steps.
OUTPUT_BYTES, OUTPUT_BYTES_PER_STEP = 200_000, 2_000
#: Threads that libraries may start late in a run, which is no leak.
LATE_THREADS = 4
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Behavior:
    """What was seen of an attempt."""

    steps: int
    printed: int
    #: Names of Python threads that were left.
    threads: list[str]
    #: The number of all threads after half of the steps and at the end.
    counts: tuple[int, int]
    #: Command lines of processes that were left.
    processes: list[str]

    @classmethod
    def of(cls, folder: Path) -> Behavior:
        """Read what was recorded in a folder."""
        found = json.loads((folder / "conduct.json").read_text())
        return cls(**{**found, "counts": tuple(found["counts"]), "printed": (folder / "output.txt").stat().st_size})

    def thread_leak(self) -> str | None:
        """Return why its threads are a leak, or None."""
        if self.threads:
            shown = ", ".join(self.threads[:3])
            return f"{len(self.threads)} threads still run after the training ({shown}): end them when a step ends"
        middle, end = self.counts
        if end - middle > LATE_THREADS:
            return f"the number of threads grows while it trains, from {middle} to {end}: end them when a step ends"
        return None

    def process_leak(self) -> str | None:
        """Return why its processes are a leak, or None."""
        if not self.processes:
            return None
        shown = ", ".join(self.processes[:3])
        return (
            f"{len(self.processes)} child processes are left after the training ({shown}): do not fork, and wait for "
            "each process that is started"
        )

    def noise(self) -> str | None:
        """Return why it prints too much, or None."""
        allowed = OUTPUT_BYTES + self.steps * OUTPUT_BYTES_PER_STEP
        if self.printed <= allowed:
            return None
        return (
            f"it prints {self.printed:,} bytes in {self.steps} steps; more than {allowed:,} fills the log of a job: "
            "print less than once a step"
        )


@dataclass
class Conduct:
    """Watches the process that it is in."""

    folder: Path
    pid: int
    at_start: set[int | None]
    counts: list[int] = field(default_factory=list)

    @classmethod
    def begin(cls, folder: Path) -> Conduct:
        """Begin: orphans of this process become its children, and its output goes to a file."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        return cls(folder, os.getpid(), {thread.ident for thread in threading.enumerate()})

    def sample(self) -> None:
        """Note the number of threads, once in each step."""
        self.counts.append(len(os.listdir("/proc/self/task")))

    def end(self) -> None:
        """Write what was seen, and end the processes that are left."""
        if os.getpid() != self.pid:  # a forked copy that went on to the end
            os._exit(0)
        left = [thread.name for thread in threading.enumerate() if thread.ident not in self.at_start]
        middle = self.counts[len(self.counts) // 2] if self.counts else 0
        children = list(_children())
        behavior = Behavior(
            steps=len(self.counts),
            printed=0,
            threads=left,
            counts=(middle, len(os.listdir("/proc/self/task"))),
            processes=[name for _, name in children],
        )
        (self.folder / "conduct.json").write_text(json.dumps(asdict(behavior)))
        for pid, _ in children:
            os.kill(pid, signal.SIGKILL)


def _children() -> Iterator[tuple[int, str]]:
    """Yield the child processes with their commands, without those of `multiprocessing` itself."""
    for task in os.listdir("/proc/self/task"):
        for pid in map(int, Path(f"/proc/self/task/{task}/children").read_text().split()):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if "resource_tracker" not in command:
                yield pid, command[:80] or "ended and not waited for"
