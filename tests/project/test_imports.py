"""Only files named after a framework (`torch.py`, `torch_*.py`) import it, and the callbacks for libraries.

Which package imports which: see the contracts of import-linter in pyproject.toml, which `make lint` checks.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("api", "nightshift", "shared", "worker")
FRAMEWORKS = {"torch": "torch", "torchvision": "torch", "tensorflow": "tensorflow", "keras": "tensorflow"}


def imported(source: str) -> Iterator[tuple[int, str]]:
    """(line, package) of every absolute import, in functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.split(".")[0]


def misplaced(path: Path, source: str) -> list[str]:
    """Imports of a framework in a file that is not named after it."""
    return [
        f"{path}:{line} imports {package}"
        for line, package in imported(source)
        if package in FRAMEWORKS
        and path.stem != FRAMEWORKS[package]
        and not path.name.startswith(f"{FRAMEWORKS[package]}_")
    ]


def test_frameworks_are_imported_where_the_name_of_the_file_says_so() -> None:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    files = [path for path in files if path.parent != ROOT / "nightshift" / "integrations"]
    assert len(files) > 50
    assert [line for path in files for line in misplaced(path, path.read_text())] == []


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("supervisor.py", "import torch", True),
        ("supervisor.py", "def f():\n    from tensorflow import keras", True),
        ("torch_learner.py", "import keras", True),
        ("torch.py", "import keras", True),
        ("torch.py", "import torch", False),
        ("torch_learner.py", "import torch.nn.functional as F", False),
        ("tensorflow_learner.py", "import keras, tensorflow", False),
        ("learner.py", "from worker.families import torch_learner", False),
    ],
)
def test_an_import_in_the_wrong_file_is_noticed(name: str, source: str, wrong: bool) -> None:
    assert bool(misplaced(Path(name), source)) == wrong
