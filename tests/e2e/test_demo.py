"""`make demo` as a newcomer runs it, after the installation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_the_demo_trains_shows_where_things_lie_and_leaves_nothing_running(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "api.client.cli", "demo", "--data-dir", str(tmp_path / "demo")]
    demo = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Flower" in demo.stdout
    assert "test_accuracy" in demo.stdout
    for figure in ("curves.png", "confusion_matrix.png", "predictions.png"):
        (named,) = [line for line in demo.stdout.splitlines() if f"/{figure}" in line]
        assert Path(named.split("  ")[1]).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "demo" / "endpoints.json").exists()
