"""Takes over jobs (`tests.support.takeover`) and holds them in their phase `finishing`; plots are not drawn.

With the tag `hold`, the runner that finishes the job leaves its pid in the job's folder as `finishing` and waits for
the file `go` there: `first` in the first attempt only, `always` in each. The tag `fault` names failpoints of the runner
that finishes the first attempt. Small jobs are handed over, too.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from shared import failpoints
from tests.support.unpainted import leave_plots_blank
from worker.kinds import finishing


def run(assignment: Any, reporter: Any) -> None:
    """Hold the job if it has the tag, then leave it to its kind."""
    leave_plots_blank()
    finishing.SMALL_BYTES = 0
    tags = assignment.spec.get("tags", {})
    if assignment.part != "finishing":
        return
    if assignment.fence == 1:
        failpoints.arm(tags.get("fault", ""))
    if tags.get("hold") == "always" or (tags.get("hold") == "first" and assignment.fence == 1):
        _hold(assignment, reporter)


def _hold(assignment: Any, reporter: Any) -> None:
    reporter.phase("finishing")
    folder = Path(assignment.job_dir)
    (file := folder / f"finishing.{assignment.fence}.new").write_text(str(os.getpid()))
    file.rename(folder / "finishing")
    while not (folder / "go").exists():
        time.sleep(0.01)
