"""What a runner prints and logs: lines out of pipes, within a budget of bytes and of lines per second."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic

#: A longer line is cut into pieces (bytes); a progress bar without line ends must not grow for ever.
MAX_LINE_BYTES = 4_096
#: Lines per second an attempt may log in the long run, and how many at once. Too low: a traceback is torn. Too high: a
#: chatty job fills the database instead of training.
LINES_PER_SECOND = 100.0
BURST_LINES = 2_000
#: How much is read at a time (bytes): printing costs the runner little even when all of it is dropped.
_CHUNK = 65_536


class LineReader:
    """The reading end of a runner's stdout or stderr. Never blocks."""

    def __init__(self, descriptor: int, keep_tail: int = 0) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.ended = False
        self._rest = b""
        self._tail: deque[str] = deque(maxlen=keep_tail or 1)

    def fileno(self) -> int:
        return self.descriptor

    def read(self) -> list[str]:
        """Whole lines that came since; at the end also the unfinished one."""
        try:
            data = os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return []
        self.ended = not data
        lines = [line.decode(errors="replace") for line in self._split(data)]
        self._tail.extend(line for line in lines if line.strip())
        return lines

    def skip(self) -> tuple[int, int]:
        """Lines and bytes that came since, unread but for the last ones: a flood costs us no more than the runner."""
        try:
            data = os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return 0, 0
        self.ended = not data
        end = data[-MAX_LINE_BYTES:].decode(errors="replace").splitlines()
        self._tail.extend(line for line in end[-(self._tail.maxlen or 1) :] if line.strip())
        self._rest = b""
        return data.count(b"\n"), len(data)

    def discard(self) -> None:
        """Forget what came so far."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.descriptor, _CHUNK):
                continue

    def tail(self) -> str:
        return " | ".join(self._tail)

    def close(self) -> None:
        os.close(self.descriptor)

    def _split(self, data: bytes) -> Iterator[bytes]:
        text = (self._rest + data).replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        if self._rest and (not data or len(self._rest) > MAX_LINE_BYTES):
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            for start in range(0, len(line), MAX_LINE_BYTES):
                yield line[start : start + MAX_LINE_BYTES]


class LogRateLimiter:
    """Says of each line whether it is kept. What is dropped is counted, and told once when there is room again."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = monotonic) -> None:
        self._left = max_bytes
        self._clock = clock
        self._tokens = float(BURST_LINES)
        self._at = clock()
        self.dropped_lines = 0
        self.dropped_bytes = 0

    def spent(self) -> bool:
        """No line would be admitted now."""
        now = self._clock()
        self._tokens = min(BURST_LINES, self._tokens + (now - self._at) * LINES_PER_SECOND)
        self._at = now
        return self._tokens < 1 or self._left <= 0

    def drop(self, lines: int, size: int) -> None:
        self.dropped_lines += lines
        self.dropped_bytes += size

    def admits(self, message: str) -> bool:
        if self.spent() or len(message) > self._left:
            self.drop(1, len(message))
            return False
        self._tokens -= 1
        self._left -= len(message)
        return True

    def notice(self) -> str | None:
        """What to tell of the lines dropped since the last time."""
        if not self.dropped_lines:
            return None
        told = (
            f"… {self.dropped_lines} lines ({self.dropped_bytes} characters) were dropped: too many in too short a time"
        )
        self.dropped_lines = self.dropped_bytes = 0
        return told
