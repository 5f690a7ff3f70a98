"""Uploads of an attempt's checkpoints and artifacts, completed before the attempt is settled.

While the storage is down, uploads are retried as long as the attempt may wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic, sleep

from shared.errors import StorageUnavailable
from shared.storage import LocalStorage
from shared.storage.uploader import FIRST_WAIT, LONGEST_WAIT
from worker.supervisor.outcomes import Succeed, Verdict
from worker.supervisor.runner_messages import RunnerMessages

#: Seconds between two polls of the uploads.
LOOK_SECONDS = 0.05


class OutputUploader:
    """Completes the uploads of one attempt."""

    def __init__(
        self,
        storage: LocalStorage,
        messages: RunnerMessages,
        give_up: Callable[[], Verdict | None],
        report: Callable[[StorageUnavailable], None],
    ) -> None:
        """Create an uploader. `report` is called with the reason for waiting.

        `give_up` returns the verdict that replaces a success if the attempt may not wait (any longer), else None.
        """
        self._storage, self._messages, self._give_up, self._report = storage, messages, give_up, report

    def complete(self, verdict: Verdict, files: Mapping[str, str]) -> Verdict:
        """Wait until all uploads are complete, and return the verdict that then applies.

        `files` maps keys to SHA-256 of the artifacts of a success. A success that cannot be stored in time is replaced
        by `give_up`'s verdict. Raises NotStored.
        """
        due, pause = 0.0, FIRST_WAIT
        while True:
            self._messages.collect()
            trouble = self._messages.uploader.trouble
            if not self._messages.uploader.waiting() and monotonic() >= due:
                try:
                    self._storage.keep_files(files, self._check_wanted)
                    return verdict
                except StorageUnavailable as error:
                    trouble, due, pause = error, monotonic() + pause, min(LONGEST_WAIT, 2 * pause)
            if (verdict_instead := self._give_up()) is not None:
                self._messages.uploader.close()
                self._messages.collect()
                return verdict_instead if isinstance(verdict, Succeed) else verdict
            if trouble is not None:
                self._report(trouble)
            sleep(LOOK_SECONDS)

    def _check_wanted(self) -> None:
        if self._give_up() is not None:
            raise StorageUnavailable("the attempt may not wait for the storage any longer")
