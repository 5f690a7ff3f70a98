"""Output of a runner: lines read from pipes, limited in bytes and in lines per second."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic

#: Longer lines (bytes) are split, since a progress bar may never end its line.
MAX_LINE_BYTES = 4_096
#: Lines per second an attempt may log on average, and at once. Too low: tracebacks lose lines. Too high: a verbose job
#: fills the database.
LINES_PER_SECOND = 100.0
BURST_LINES = 2_000
#: Bytes per read: large, so that printing costs the runner little even if all of it is dropped.
_CHUNK = 65_536


class LineReader:
    """The reading end of a runner's stdout or stderr. Never blocks."""

    def __init__(self, descriptor: int, keep_tail: int = 0) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.ended = False
        #: Hides secrets in a line, before it is cut into pieces.
        self.hidden: Callable[[bytes], bytes] = bytes
        self._rest = b""
        self._tail: deque[str] = deque(maxlen=keep_tail or 1)

    def fileno(self) -> int:
        """Return the descriptor to select on."""
        return self.descriptor

    def read(self) -> list[str]:
        """Return the complete lines received, and at end of file also the last incomplete one."""
        if (data := self._receive()) is None:
            return []
        lines = [line.decode(errors="replace") for line in self._split(data)]
        self._tail.extend(line for line in lines if line.strip())
        return lines

    def skip(self) -> tuple[int, int]:
        """Discard what was received, except the tail, and return its number of lines and bytes.

        It costs the worker no more than printing costs the runner.
        """
        if (data := self._receive()) is None:
            return 0, 0
        end = (self._rest + data)[-MAX_LINE_BYTES:].replace(b"\r", b"\n")
        # Whole lines only: a secret that is cut in two would not be found.
        first = 0 if len(self._rest) + len(data) <= MAX_LINE_BYTES else 1
        *lines, self._rest = end.split(b"\n")
        if not data and self._rest:
            lines.append(self._rest)
        shown = (self.hidden(line).decode(errors="replace") for line in lines[first:])
        self._tail.extend(line for line in shown if line.strip())
        return data.count(b"\n"), len(data)

    def _receive(self) -> bytes | None:
        """Return what was received, empty at end of file; None if there is nothing yet."""
        try:
            data = os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return None
        self.ended = not data
        return data

    def discard(self) -> None:
        """Discard what was received."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.descriptor, _CHUNK):
                continue

    def tail(self) -> str:
        """Return the last lines received."""
        return " | ".join(self._tail)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)

    def _split(self, data: bytes) -> Iterator[bytes]:
        text = (self._rest + data).replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        if self._rest and not data:
            lines.append(self._rest)
            self._rest = b""
        elif len(self._rest) > 2 * MAX_LINE_BYTES:  # what is kept back holds a secret that has not arrived whole
            rest = self.hidden(self._rest)
            lines.append(rest[:-MAX_LINE_BYTES])
            self._rest = rest[-MAX_LINE_BYTES:]
        for line in map(self.hidden, lines):
            for start in range(0, len(line), MAX_LINE_BYTES):
                yield line[start : start + MAX_LINE_BYTES]


class LogRateLimiter:
    """Decides whether a log line is kept. Dropped lines are counted and reported once."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = monotonic) -> None:
        self._left = max_bytes
        self._clock = clock
        self._tokens = float(BURST_LINES)
        self._at = clock()
        self.dropped_lines = 0
        self.dropped_bytes = 0

    def spent(self) -> bool:
        """Return whether no line would be admitted now."""
        now = self._clock()
        self._tokens = min(BURST_LINES, self._tokens + (now - self._at) * LINES_PER_SECOND)
        self._at = now
        return self._tokens < 1 or self._left <= 0

    def drop(self, lines: int, size: int) -> None:
        """Count dropped lines and characters."""
        self.dropped_lines += lines
        self.dropped_bytes += size

    def admits(self, message: str) -> bool:
        """Return whether the line is kept, and count it."""
        if self.spent() or len(message) > self._left:
            self.drop(1, len(message))
            return False
        self._tokens -= 1
        self._left -= len(message)
        return True

    def notice(self) -> str | None:
        """Return a message about the lines dropped since the last call, or None."""
        if not self.dropped_lines:
            return None
        message = (
            f"… {self.dropped_lines} lines ({self.dropped_bytes} characters) were dropped: too many in too short a time"
        )
        self.dropped_lines = self.dropped_bytes = 0
        return message
