"""The training loop's interface to the outside.

`worker.runners.reporter.Reporter` sends reports over the pipe; `worker.run_job` prints them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.job_files.checkpoint_record import CheckpointRecord
from worker.runners.messages import ArtifactSaved, Champion, MetricPoint, Progress, Started


class Reporter(Protocol):
    """Receives reports from any thread. `champion` and `agree` block; no call raises because of a slow reader."""

    def started(self, frame: Started) -> None: ...

    def progress(self, frame: Progress) -> None: ...

    def phase(self, name: str) -> None:
        """Report the phase from here on (`worker.runners.messages.Phase`); the watchdog's limit depends on it."""
        ...

    def metrics(self, points: Sequence[MetricPoint]) -> None: ...

    def checkpoint(self, checkpoint: CheckpointRecord) -> None: ...

    def artifact(self, frame: ArtifactSaved) -> None: ...

    def log(self, message: str, level: str = "info") -> None: ...

    def champion(self) -> Champion:
        """Return the version that the job's `promote.alias` points at now. Blocks until the reply."""
        ...

    def agree(self, engine: str) -> str:
        """Return the engine that all shards of the job compute with: this one, unless another was proposed before."""
        ...

    def stop_requested(self) -> str | None:
        """Return the reason of the strongest stop request so far, or None. Cheap: called at each step."""
        ...
