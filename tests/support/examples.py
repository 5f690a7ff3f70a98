"""The projects in `examples/`, installed as an operator installs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"


def install(name: str, folder: Path) -> Path:
    """Install an example with pip, offline, into a folder `packages` that can be put on the path."""
    source, packages = folder / name, folder / "packages"
    shutil.copytree(EXAMPLES / name, source)  # building leaves files beside the sources
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(packages), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return packages
