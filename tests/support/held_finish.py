"""Takes over jobs (`tests.support.takeover`) and holds them in their phase `finishing`; plots are not drawn.

With the tag `hold`, the runner that finishes the job leaves its pid in the job's folder as `finishing` and waits for
the file `go` there: `first` in the first attempt only, `always` in each.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests.support.unpainted import leave_plots_blank


def run(assignment: Any, reporter: Any) -> None:
    """Hold the job if it has the tag, then leave it to its kind."""
    leave_plots_blank()
    hold = assignment.spec.get("tags", {}).get("hold")
    if assignment.part != "finishing" or not (hold == "always" or (hold == "first" and assignment.fence == 1)):
        return
    reporter.phase("finishing")
    folder = Path(assignment.job_dir)
    (file := folder / f"finishing.{assignment.fence}.new").write_text(str(os.getpid()))
    file.rename(folder / "finishing")
    while not (folder / "go").exists():
        time.sleep(0.01)
