"""Takes what an attempt wrote to the storage, beside everything else the worker does, and says what has arrived.

A parcel arrives once the store surely has it; only then may a row name it. Parcels arrive in their order. A store that
does not answer is tried again, less and less often, for as long as the attempt lasts.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Protocol

from nightshift.errors import NightshiftError
from shared.errors import StorageUnavailable
from shared.events import emit

#: Between tries at a store that does not answer (seconds): from the first to the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0


@dataclass(frozen=True)
class Upload:
    """A folder of an attempt. `row` is what its arrival is for."""

    key: str
    sha256: str
    row: Any


class Uploader(Protocol):
    #: What went wrong last, while it is tried again.
    trouble: StorageUnavailable | None

    def send(self, parcel: Upload) -> None: ...

    def waiting(self) -> list[Upload]:
        """Sent, and neither arrived nor refused; oldest first."""
        ...

    def forget(self, parcel: Upload) -> None:
        """It need not arrive any more, and goes from this host; unless it is just on its way."""
        ...

    def arrived(self) -> list[Upload]:
        """Since the last time."""
        ...

    def refused(self) -> list[tuple[Upload, str]]:
        """Since the last time: what can never arrive, and why."""
        ...

    def close(self) -> None:
        """Carry nothing more."""
        ...


class NoopUploader:
    """Where it was written is where it stays."""

    trouble: StorageUnavailable | None = None

    def __init__(self) -> None:
        self._arrived: list[Upload] = []

    def send(self, parcel: Upload) -> None:
        self._arrived.append(parcel)

    def waiting(self) -> list[Upload]:
        return []

    def forget(self, parcel: Upload) -> None:
        return None

    def arrived(self) -> list[Upload]:
        arrived, self._arrived = self._arrived, []
        return arrived

    def refused(self) -> list[tuple[Upload, str]]:
        return []

    def close(self) -> None:
        return None


class Closed(NightshiftError):
    """The attempt is over."""


class BackgroundUploader:
    """One parcel at a time, in a thread of its own."""

    def __init__(
        self,
        keep: Callable[[Upload, Callable[[], None]], None],
        drop: Callable[[Upload], None],
        wake: Callable[[], None],
    ) -> None:
        """`keep` returns when the store has the parcel's folder, raises StorageUnavailable while it does not answer and
        anything else where it never will; it calls what it is given between pieces. `drop` removes a folder that need
        not go there."""
        self._keep, self._drop, self._wake = keep, drop, wake
        self._changed = threading.Condition()
        self._waiting: deque[Upload] = deque()
        self._arrived: list[Upload] = []
        self._refused: list[tuple[Upload, str]] = []
        self._closed = False
        self.trouble: StorageUnavailable | None = None
        self._thread: threading.Thread | None = None

    def send(self, parcel: Upload) -> None:
        with self._changed:
            self._waiting.append(parcel)
            self._changed.notify_all()
        if self._thread is None:
            run = copy_context().run
            self._thread = threading.Thread(target=run, args=(self._run,), name="carrier", daemon=True)
            self._thread.start()

    def waiting(self) -> list[Upload]:
        with self._changed:
            return list(self._waiting)

    def forget(self, parcel: Upload) -> None:
        with self._changed:
            if parcel not in list(self._waiting)[1:]:
                return
            self._waiting.remove(parcel)
        self._drop(parcel)

    def arrived(self) -> list[Upload]:
        with self._changed:
            arrived, self._arrived = self._arrived, []
        return arrived

    def refused(self) -> list[tuple[Upload, str]]:
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
        while (parcel := self._next()) is not None:
            try:
                self._keep(parcel, self._going)
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
                self._done(parcel, f"{type(error).__name__}: {error}")
            else:
                self._done(parcel, None)
            self.trouble, pause = None, FIRST_WAIT

    def _next(self) -> Upload | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting[0]

    def _going(self) -> None:
        if self._closed:
            raise Closed("the attempt is over")

    def _done(self, parcel: Upload, why: str | None) -> None:
        with self._changed:
            self._waiting.popleft()
            if why is None:
                self._arrived.append(parcel)
            else:
                self._refused.append((parcel, why))
        if not self._closed:
            self._wake()
