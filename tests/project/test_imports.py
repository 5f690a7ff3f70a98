"""Imports between the packages: api -> shared <- worker, nightshift below all; frameworks only in files named for them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("api", "nightshift", "shared", "worker")
FRAMEWORKS = {"torch", "tensorflow", "keras", "torchvision"}
#: Third-party packages that a client is installed without.
SERVER = {
    "alembic",
    "celery",
    "fastapi",
    "flower",
    "kombu",
    "numpy",
    "redis",
    "sqlalchemy",
    "sqlmodel",
    "starlette",
    "uvicorn",
}
#: Package -> what nothing in it may import.
FORBIDDEN = {
    "api": {"worker", *FRAMEWORKS},
    "nightshift": {"api", "shared", "worker", *SERVER, *FRAMEWORKS},
    "worker": {"api", "fastapi", "starlette", "uvicorn", "typer"},
    "shared": {"api", "worker", "fastapi", "starlette", "uvicorn", "typer", *FRAMEWORKS},
}
#: A runner speaks no SQL and knows no broker, so that it has nothing to leak.
RUNNER = (
    "worker/runners/runner.py",
    "worker/runners/reporter.py",
    "worker/runners/messages.py",
    "worker/training",
    "worker/families",
    "worker/kinds",
)
RUNNER_FORBIDDEN = {"sqlalchemy", "sqlmodel", "celery", "redis", "kombu", "shared.db", "shared.celery_app"}


def imports_of(path: Path, source: str | None = None) -> Iterator[tuple[int, str]]:
    """(line, module) of every import statement, in functions too; relative ones made absolute."""
    tree = ast.parse(source if source is not None else path.read_text(encoding="utf-8"))
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def is_within(module: str, names: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def wrong_edges(path: Path, source: str | None = None) -> list[str]:
    place = path.relative_to(ROOT).as_posix()
    package = place.split("/")[0]
    edges = []
    for line, module in imports_of(path, source):
        why = None
        if is_within(module, FORBIDDEN[package]):
            why = f"{package} may not import {module.split('.')[0]}"
        elif is_within(module, FRAMEWORKS) and not framework_file(path, module):
            why = "only torch_*.py and tensorflow_*.py import their framework"
        elif place.startswith(RUNNER) and is_within(module, RUNNER_FORBIDDEN):
            why = "the runner's side speaks no SQL and knows no broker"
        if why:
            edges.append(f"{place}:{line} imports {module}: {why}")
    return edges


def framework_file(path: Path, module: str) -> bool:
    framework = "torch" if module.startswith("torch") else "tensorflow"
    return path.name.startswith(f"{framework}_")


def test_no_import_goes_the_wrong_way() -> None:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 50
    edges = list(dict.fromkeys(edge for path in files for edge in wrong_edges(path)))
    assert not edges, "\n" + "\n".join(edges)


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("api/app.py", "import worker.supervisor.supervisor"),
        ("api/app.py", "def f():\n    from worker import supervisor"),
        ("api/app.py", "import torch"),
        ("nightshift/client/client.py", "from shared.settings import get_settings"),
        ("nightshift/cli/app.py", "def f():\n    import celery"),
        ("worker/celery_app/tasks.py", "from api.dependencies import engine"),
        ("shared/settings.py", "from fastapi import Depends"),
        ("shared/settings.py", "import tensorflow as tf"),
        ("worker/supervisor/supervisor.py", "import torch"),
        ("worker/families/cnn/torch_learner.py", "import keras"),
        ("worker/training/trainer.py", "from shared.db.engine import write"),
        ("worker/training/trainer.py", "from shared import celery_app"),
    ],
)
def test_a_wrong_edge_is_noticed_and_named(place: str, source: str) -> None:
    edges = wrong_edges(ROOT / place, source)
    assert edges
    assert place in edges[0]


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("worker/families/cnn/torch_learner.py", "import torch.nn.functional as F"),
        ("worker/families/cnn/tensorflow_learner.py", "import keras, tensorflow"),
        ("api/app.py", "from shared.jobs import queries"),
    ],
)
def test_right_edges_are_left_alone(place: str, source: str) -> None:
    assert wrong_edges(ROOT / place, source) == []
