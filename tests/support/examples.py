"""The projects of `examples/`, installed by pip into a folder, without a network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"


def install(name: str, folder: Path) -> Path:
    """Install an example into `folder / "packages"`, which can be put on `sys.path`."""
    # A copy: building leaves files beside the sources.
    source = shutil.copytree(EXAMPLES / name, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "tests"))
    target = folder / "packages"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", *options, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def own_tests(name: str, packages: Path) -> str:
    """Run the tests of an example against what was installed; return pytest's output."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "."]
    environment = {"PYTHONPATH": f"{packages}:{ROOT}", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    folder = EXAMPLES / name / "tests"  # so that `import` does not find the sources beside it
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
