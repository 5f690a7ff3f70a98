"""What a forkserver fills is not looked up again by its runners."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SECOND_TIME = """
import sys
import numpy as np
from pathlib import Path
from worker.families.cnn import plots
from worker.training import artifacts, caches
from worker.training.classification.evaluation import evaluate

def look():
    report = evaluate(np.eye(3, dtype=np.float32), np.arange(3), list("abc"))
    shown = {"pictures": np.zeros((3, 8, 8, 1), np.uint8), "labels": np.arange(3), "predicted": np.arange(3),
             "confidence": np.ones(3)}
    report = type(report)(report.metrics, report.document, shown)
    artifacts.announce(plots.draw(report, {"loss": [[1, 0.5]]}, folder, 1), folder, Reporter())

class Reporter:
    def artifact(self, frame):
        assert frame.media_type == "image/png"

folder, opened = Path(sys.argv[1]), []
caches.fill()
sys.addaudithook(lambda event, given: opened.append(given[0]) if event == "open" else None)
look()
print("elsewhere", [str(path) for path in opened if not str(path).startswith(str(folder))])
"""


def test_evaluating_and_drawing_open_nothing_but_their_files(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SECOND_TIME, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "elsewhere []\n", done.stderr[-2_000:]
    assert len(list(tmp_path.glob("*.png"))) == 4
