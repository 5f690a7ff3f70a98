"""What the training loop needs of the outside world. `worker.runners.reporter.Reporter` sends it over the pipe;
`worker.run_job` prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.job_files.checkpoint_record import CheckpointRecord
from worker.runners.messages import ArtifactSaved, Champion, MetricPoint, Progress, Started


class Reporter(Protocol):
    """May be called from more than one thread. Every call but `champion` returns at once or soon; none raises for a
    slow reader."""

    def started(self, frame: Started) -> None: ...

    def progress(self, frame: Progress) -> None: ...

    def phase(self, name: str) -> None:
        """What happens from here on (`worker.runners.messages.Phase`): the watchdog's patience depends on it."""
        ...

    def metrics(self, points: Sequence[MetricPoint]) -> None: ...

    def checkpoint(self, checkpoint: CheckpointRecord) -> None: ...

    def artifact(self, frame: ArtifactSaved) -> None: ...

    def log(self, message: str, level: str = "info") -> None: ...

    def champion(self) -> Champion:
        """The version that the job's `promote.alias` points at now. Waits for the answer."""
        ...

    def stop_requested(self) -> str | None:
        """The reason of the strongest Stop heard so far, or None. Cheap: asked at each step."""
        ...
