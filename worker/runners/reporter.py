"""The runner's end of the socket: sends frames, receives Stop, and exits when the supervisor is gone.

Training does not wait for the socket: a thread writes frames from a backlog. When the backlog is full because the
supervisor does not read, progress and log frames are dropped and all others wait.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.states import StopRequest
from worker.runners.messages import (
    Agreed,
    ArtifactSaved,
    AskChampion,
    Assignment,
    Champion,
    CheckpointSaved,
    Failed,
    Finishing,
    Log,
    MetricPoint,
    Metrics,
    Phase,
    Progress,
    ProposeEngine,
    Result,
    Started,
    Stop,
    Stopped,
    WarmUp,
    decode_to_runner,
    encode,
)

#: Unsent bytes above which progress and logs are dropped and other frames wait for the writer.
MAX_BACKLOG_BYTES = 16_000_000
#: Most bytes per read of the socket.
_CHUNK = 262_144
#: Most locks that come with an assignment: one for each device of a gang.
_MOST_LOCKS = 64
#: Exit code of a runner whose supervisor is gone; only the forkserver sees it.
ORPHANED = 86


class Channel:
    """The socket to the supervisor, with a writing and a reading thread."""

    def __init__(self, sock: socket.socket, on_end: Callable[[], None] = lambda: os._exit(ORPHANED)) -> None:
        self._sock = sock
        self._lines = self._received()
        self._on_end = on_end
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self.stop_reason: StopRequest | None = None
        self.champions: queue.SimpleQueue[Champion] = queue.SimpleQueue()
        self.engines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def receive_assignment(self, warm_up: Callable[[WarmUp], None]) -> Assignment | None:
        """Wait for the assignment; warm up before it if asked to. Return None if the supervisor closed the socket."""
        for frame in map(decode_to_runner, self._lines):
            if isinstance(frame, WarmUp):
                warm_up(frame)
            elif isinstance(frame, Assignment):
                return frame
            else:
                raise TypeError("the first frames to a runner must be a warm-up or an assignment")
        return None

    def start(self) -> None:
        """Start both threads."""
        threading.Thread(target=self._write, name="channel-writer", daemon=True).start()
        threading.Thread(target=self._read, name="channel-reader", daemon=True).start()

    def send(self, frame: Any, *, droppable: bool = False) -> None:
        """Queue a frame. When the backlog is full, drop it if `droppable`, else wait."""
        line = encode(frame)
        with self._changed:
            if self._backlog_bytes > MAX_BACKLOG_BYTES:
                if droppable:
                    return
                self._changed.wait_for(lambda: self._backlog_bytes <= MAX_BACKLOG_BYTES)
            self._backlog.append(line)
            self._backlog_bytes += len(line)
            self._changed.notify_all()

    def say(self, frame: Any) -> None:
        """Send a last frame without the threads, for a rank that has died: what it had begun to send is cut off."""
        self._sock.sendall(encode(frame))

    def close(self) -> None:
        """Close the sending side when all frames have been handed to the kernel."""
        with self._changed:
            self._closing = True
            self._changed.wait_for(lambda: not self._backlog_bytes)
        self._sock.shutdown(socket.SHUT_WR)

    def _write(self) -> None:
        for lines in self._written():
            try:
                self._sock.sendall(lines)
            except OSError:
                self._on_end()
                return

    def _written(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._backlog)
                lines = b"".join(self._backlog)
                self._backlog.clear()
            yield lines
            with self._changed:
                self._backlog_bytes -= len(lines)
                self._changed.notify_all()

    def _received(self) -> Iterator[bytes]:
        """Yield the lines that arrive.

        The locks of the devices come with the assignment. They are never closed: the runner and its descendants hold
        the devices as long as one of them lives.
        """
        rest = b""
        while True:
            data, locks, _, _ = socket.recv_fds(self._sock, _CHUNK, _MOST_LOCKS)
            for lock in locks:
                os.set_inheritable(lock, True)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from lines

    def _read(self) -> None:
        try:
            for line in self._lines:
                frame = decode_to_runner(line)
                if isinstance(frame, Stop):
                    self._on_message(frame.reason)
                elif isinstance(frame, Champion):
                    self.champions.put(frame)
                elif isinstance(frame, Agreed):
                    self.engines.put(frame.engine)
        except (OSError, ValueError):
            pass
        if not self._closing:
            self._on_end()

    def _on_message(self, reason: StopRequest) -> None:
        if reason.outranks(self.stop_reason):
            self.stop_reason = reason


class Reporter:
    """The reporter that sends frames to the supervisor (see `worker.training.reporter.Reporter`)."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def started(self, frame: Started) -> None:
        self._channel.send(frame)

    def progress(self, frame: Progress) -> None:
        self._channel.send(frame, droppable=True)

    def phase(self, name: str) -> None:
        self._channel.send(Phase(phase=name))

    def metrics(self, points: Sequence[MetricPoint]) -> None:
        self._channel.send(Metrics(points=list(points)))

    def checkpoint(self, checkpoint: CheckpointRecord) -> None:
        self._channel.send(CheckpointSaved.model_construct(**dict(checkpoint)))

    def artifact(self, frame: ArtifactSaved) -> None:
        self._channel.send(frame)

    def log(self, message: str, level: str = "info") -> None:
        self._channel.send(Log(level=level, message=message), droppable=True)

    def champion(self) -> Champion:
        self._channel.send(AskChampion())
        return self._channel.champions.get()

    def agree(self, engine: str) -> str:
        self._channel.send(ProposeEngine(engine=engine))
        return self._channel.engines.get()

    def stop_requested(self) -> str | None:
        return self._channel.stop_reason

    def end(self, frame: Result | Stopped | Failed | Finishing) -> None:
        """Send the last frame and close the channel."""
        self._channel.send(frame)
        self._channel.close()
