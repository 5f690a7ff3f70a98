"""Background upload of an attempt's checkpoints to the storage.

A checkpoint has arrived once the store has all of it; only then may an SQL row name it. Checkpoints arrive in order.
While the store does not answer, uploads are retried with increasing delays for as long as the attempt runs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context

from nightshift.errors import NightshiftError
from shared.errors import StorageUnavailable
from shared.events import emit
from shared.job_files.checkpoint_record import CheckpointRecord

#: First and longest delay between retries while the store does not answer (seconds).
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0


class Uploader:
    """Uploads the checkpoints of one attempt: to a storage folder, where they arrive as soon as they are written."""

    #: The last failure, while the upload is retried.
    trouble: StorageUnavailable | None = None

    def __init__(self) -> None:
        self._arrived: list[CheckpointRecord] = []

    def send(self, checkpoint: CheckpointRecord) -> None:
        """Queue a checkpoint for upload."""
        self._arrived.append(checkpoint)

    def waiting(self) -> list[CheckpointRecord]:
        """Return the checkpoints sent, but neither arrived nor refused; oldest first."""
        return []

    def forget(self, checkpoint: CheckpointRecord) -> None:
        """Drop a checkpoint that is no longer needed from the queue and this host, unless it is being uploaded."""

    def arrived(self) -> list[CheckpointRecord]:
        """Return the checkpoints that arrived since the last call."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def refused(self) -> list[tuple[CheckpointRecord, str]]:
        """Return the checkpoints that failed for good since the last call, each with the reason."""
        return []

    def close(self) -> None:
        """Stop uploading."""


class Closed(NightshiftError):
    """Raised inside an upload when the uploader is closed."""


class BackgroundUploader(Uploader):
    """Uploads one checkpoint at a time to an object store, in its own thread."""

    def __init__(
        self,
        keep: Callable[[CheckpointRecord, Callable[[], None]], None],
        drop: Callable[[CheckpointRecord], None],
        wake: Callable[[], None],
    ) -> None:
        """Create an uploader that starts its thread with the first checkpoint.

        `keep(checkpoint, cancel_check)` uploads a folder and calls `cancel_check` between parts. It raises
        StorageUnavailable if a retry may help, another error otherwise. `drop` removes a folder that need not be
        uploaded. `wake` is called after each checkpoint.
        """
        super().__init__()
        self._keep, self._drop, self._wake = keep, drop, wake
        self._changed = threading.Condition()
        self._waiting: deque[CheckpointRecord] = deque()
        self._refused: list[tuple[CheckpointRecord, str]] = []
        self._closed = False
        self._thread: threading.Thread | None = None

    def send(self, checkpoint: CheckpointRecord) -> None:
        with self._changed:
            self._waiting.append(checkpoint)
            self._changed.notify_all()
        if self._thread is None:
            run = copy_context().run
            self._thread = threading.Thread(target=run, args=(self._run,), name="uploader", daemon=True)
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
            return super().arrived()

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
                self._keep(checkpoint, self._check_open)
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

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the attempt has ended")

    def _done(self, checkpoint: CheckpointRecord, why: str | None) -> None:
        with self._changed:
            self._waiting.popleft()
            if why is None:
                self._arrived.append(checkpoint)
            else:
                self._refused.append((checkpoint, why))
        if not self._closed:
            self._wake()
