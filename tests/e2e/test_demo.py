"""`make demo` as a newcomer runs it, after the installation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_demo_trains_shows_where_things_lie_and_leaves_nothing_running(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "nightshift.cli.app", "demo", "--data-dir", str(tmp_path / "demo")]
    # What `make demo` installs; TensorFlow, which is installed for other tests, takes ten seconds to import.
    environment = os.environ | {"NIGHTSHIFT_FRAMEWORKS": "torch"}
    demo = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Flower" in demo.stdout
    assert "test_accuracy" in demo.stdout
    assert all(f"{step}/3 " in demo.stdout for step in (1, 2, 3))
    for name, magic in (("curves.png", b"\x89PNG"), ("predictions.png", b"\x89PNG"), ("predictions.parquet", b"PAR1")):
        named = [line.split("  ")[1] for line in demo.stdout.splitlines() if f"/{name}" in line]
        assert named, f"{name} is not named"
        assert all(Path(path).read_bytes().startswith(magic) for path in named)
    assert not (tmp_path / "demo" / "endpoints.json").exists()
