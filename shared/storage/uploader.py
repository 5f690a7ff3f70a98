"""Takes the checkpoints of an attempt to the storage, beside everything else the worker does, and says which have arrived.

A checkpoint arrives once the store surely has it; only then may a row name it. They arrive in their order. A store that
does not answer is tried again, less and less often, for as long as the attempt lasts.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Protocol

from nightshift.errors import NightshiftError
from shared.errors import StorageUnavailable
from shared.events import emit
from shared.job_files.checkpoint_record import CheckpointRecord

#: Between tries at a store that does not answer (seconds): from the first to the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0


class Uploader(Protocol):
    #: What went wrong last, while it is tried again.
    trouble: StorageUnavailable | None

    def send(self, checkpoint: CheckpointRecord) -> None: ...

    def waiting(self) -> list[CheckpointRecord]:
        """Sent, and neither arrived nor refused; oldest first."""
        ...

    def forget(self, checkpoint: CheckpointRecord) -> None:
        """It need not arrive any more, and goes from this host; unless it is just on its way."""
        ...

    def arrived(self) -> list[CheckpointRecord]:
        """Since the last time."""
        ...

    def refused(self) -> list[tuple[CheckpointRecord, str]]:
        """Since the last time: what can never arrive, and why."""
        ...

    def close(self) -> None:
        """Carry nothing more."""
        ...


class NoopUploader:
    """Where it was written is where it stays."""

    trouble: StorageUnavailable | None = None

    def __init__(self) -> None:
        self._arrived: list[CheckpointRecord] = []

    def send(self, checkpoint: CheckpointRecord) -> None:
        self._arrived.append(checkpoint)

    def waiting(self) -> list[CheckpointRecord]:
        return []

    def forget(self, checkpoint: CheckpointRecord) -> None:
        return None

    def arrived(self) -> list[CheckpointRecord]:
        arrived, self._arrived = self._arrived, []
        return arrived

    def refused(self) -> list[tuple[CheckpointRecord, str]]:
        return []

    def close(self) -> None:
        return None


class Closed(NightshiftError):
    """The attempt is over."""


class BackgroundUploader:
    """One checkpoint at a time, in a thread of its own."""

    def __init__(
        self,
        keep: Callable[[CheckpointRecord, Callable[[], None]], None],
        drop: Callable[[CheckpointRecord], None],
        wake: Callable[[], None],
    ) -> None:
        """`keep` returns when the store has the checkpoint's folder, raises StorageUnavailable while it does not answer and
        anything else where it never will; it calls what it is given between pieces. `drop` removes a folder that need
        not go there."""
        self._keep, self._drop, self._wake = keep, drop, wake
        self._changed = threading.Condition()
        self._waiting: deque[CheckpointRecord] = deque()
        self._arrived: list[CheckpointRecord] = []
        self._refused: list[tuple[CheckpointRecord, str]] = []
        self._closed = False
        self.trouble: StorageUnavailable | None = None
        self._thread: threading.Thread | None = None

    def send(self, checkpoint: CheckpointRecord) -> None:
        with self._changed:
            self._waiting.append(checkpoint)
            self._changed.notify_all()
        if self._thread is None:
            run = copy_context().run
            self._thread = threading.Thread(target=run, args=(self._run,), name="carrier", daemon=True)
            self._thread.start()

    def waiting(self) -> list[CheckpointRecord]:
        with self._changed:
            return list(self._waiting)

    def forget(self, checkpoint: CheckpointRecord) -> None:
        with self._changed:
            if checkpoint not in list(self._waiting)[1:]:
                return
            self._waiting.remove(checkpoint)
        self._drop(checkpoint)

    def arrived(self) -> list[CheckpointRecord]:
        with self._changed:
            arrived, self._arrived = self._arrived, []
        return arrived

    def refused(self) -> list[tuple[CheckpointRecord, str]]:
        with self._changed:
            refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        pause = FIRST_WAIT
        while (checkpoint := self._next()) is not None:
            try:
                self._keep(checkpoint, self._cancel_check)
            except Closed:
                return
            except StorageUnavailable as trouble:
                emit("storage.unavailable", error=str(trouble))
                self.trouble = trouble
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, pause)
                pause = min(LONGEST_WAIT, 2 * pause)
                continue
            except Exception as error:
                self._done(checkpoint, f"{type(error).__name__}: {error}")
            else:
                self._done(checkpoint, None)
            self.trouble, pause = None, FIRST_WAIT

    def _next(self) -> CheckpointRecord | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting[0]

    def _cancel_check(self) -> None:
        if self._closed:
            raise Closed("the attempt is over")

    def _done(self, checkpoint: CheckpointRecord, why: str | None) -> None:
        with self._changed:
            self._waiting.popleft()
            if why is None:
                self._arrived.append(checkpoint)
            else:
                self._refused.append((checkpoint, why))
        if not self._closed:
            self._wake()
