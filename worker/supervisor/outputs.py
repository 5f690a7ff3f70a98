"""The last things of an attempt on their way to the storage: its checkpoints, and when it succeeded its artifacts, are
there before anything is settled. A store that does not answer is waited for as long as waiting makes sense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic, sleep

from shared.errors import StorageUnavailable
from shared.storage import LocalStorage
from shared.storage.uploader import FIRST_WAIT, LONGEST_WAIT
from worker.supervisor.outcomes import Succeed, Verdict
from worker.supervisor.runner_messages import RunnerMessages

#: Between looks at what is on its way (seconds).
LOOK_SECONDS = 0.05


class OutputUploader:
    def __init__(
        self,
        storage: LocalStorage,
        heard: RunnerMessages,
        instead: Callable[[], Verdict | None],
        tell: Callable[[StorageUnavailable], None],
    ) -> None:
        """`instead`: what a success becomes where the attempt may not wait (any longer), None where it may; `tell`
        hears why it waits."""
        self._storage, self._heard, self._instead, self._tell = storage, heard, instead, tell

    def complete(self, verdict: Verdict, files: Mapping[str, str]) -> Verdict:
        """`files`: key to SHA-256 of what belongs to a success. Returns the verdict that stands when all has arrived,
        or when there is no time: a success that is not in the storage is none. Raises NotStored."""
        due, pause = 0.0, FIRST_WAIT
        while True:
            self._heard.collect()
            trouble = self._heard.uploader.trouble
            if not self._heard.uploader.waiting() and monotonic() >= due:
                try:
                    self._storage.keep_files(files, self._going)
                    return verdict
                except StorageUnavailable as error:
                    trouble, due, pause = error, monotonic() + pause, min(LONGEST_WAIT, 2 * pause)
            if (instead := self._instead()) is not None:
                self._heard.uploader.close()
                self._heard.collect()
                return instead if isinstance(verdict, Succeed) else verdict
            if trouble is not None:
                self._tell(trouble)
            sleep(LOOK_SECONDS)

    def _going(self) -> None:
        if self._instead() is not None:
            raise StorageUnavailable("the attempt may not wait for the storage any longer")
