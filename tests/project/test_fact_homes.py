"""Facts that stand in one place: families, kinds and metrics are named in shared/specs, and the rest asks there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightshift.metrics import METRICS, PARTS
from nightshift.names import KINDS
from shared.specs.families import FAMILIES

ROOT = Path(__file__).parents[2]
#: Where such names belong: the specs, stored schemas of the past, and each family's own code.
HOMES = (
    "nightshift/families/",
    "nightshift/metrics.py",
    "nightshift/names.py",
    "shared/specs/",
    "shared/db/migrations/",
    *(f"worker/families/{name}/" for name in FAMILIES),
)
#: Files that may name one nevertheless.
ALLOWED = {
    "api/commands/demo.py": "its jobs are written as a user would write them",
}
#: Metrics that are settings, too.
SETTINGS = {"learning_rate", "precision"}
#: Kinds that are other things, too: a part of a data set, a phase of a runner.
AMBIGUOUS = {"train", "evaluate", "run"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in ("api", "nightshift", "shared", "worker"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if not name.startswith(HOMES) and name not in ALLOWED:
                yield name, ast.parse(path.read_text())


def strings(node: ast.AST) -> list[str]:
    return [part.value for part in ast.iter_child_nodes(node) if _is_text(part)]  # type: ignore[attr-defined]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def names_in(tree: ast.Module) -> Iterator[str]:
    """Families and kinds that are named; an ambiguous word counts beside another kind, or where a kind is asked for."""
    for node in ast.walk(tree):
        found = strings(node)
        certain = [text for text in found if text in {*FAMILIES, *KINDS} - AMBIGUOUS]
        about_kinds = bool(certain) or (isinstance(node, ast.Compare | ast.Dict) and "kind" in ast.unparse(node))
        doubtful = [text for text in found if text in AMBIGUOUS] if about_kinds else []
        yield from (f"{text!r} in line {getattr(node, 'lineno', '?')}" for text in certain + doubtful)


@pytest.mark.parametrize(
    "code",
    ['x = ("cnn", "gan")', 'f("gru_lm")', 'a.kind != "train"', '{"kind": "evaluate"}', '("train", "finetune")'],
)
def test_a_name_is_found(code: str) -> None:
    assert list(names_in(ast.parse(code)))


@pytest.mark.parametrize("code", ['phase("train")', 'splits["train"]', '("train", "test")', 'phase("evaluate")'])
def test_another_meaning_is_none(code: str) -> None:
    assert not list(names_in(ast.parse(code)))


def test_families_and_kinds_are_named_in_the_specs_only() -> None:
    """What docs/howto/add-family.md says: nothing else needs to know."""
    assert {file: found for file, tree in sources() if (found := list(names_in(tree)))} == {}


def metrics_in(tree: ast.Module) -> Iterator[str]:
    """Lists of metrics (an order, a choice), and metrics with a better side."""
    known = {part + name for name in METRICS for part in ("", *PARTS)} - SETTINGS
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List | ast.Set) and len(known & set(strings(node))) > 1:
            yield f"a list of metrics in line {node.lineno}"
        if isinstance(node, ast.Dict) and known & set(strings(node)) and {"max", "min"} & set(strings(node)):
            yield f"the better side of a metric in line {node.lineno}"


@pytest.mark.parametrize("code", ['x = ("loss", "val_loss")', 'x = {"test_accuracy": "max"}'])
def test_a_fact_of_metrics_is_found(code: str) -> None:
    assert list(metrics_in(ast.parse(code)))


def test_order_and_better_side_of_metrics_stand_in_the_specs_only() -> None:
    assert {file: found for file, tree in sources() if (found := list(metrics_in(tree)))} == {}


def test_versions_are_looked_up_in_one_place() -> None:
    askers = {file for file, tree in sources() for node in ast.walk(tree) if _imports(node, "importlib.metadata")}
    assert askers == {"nightshift/versions.py", "nightshift/entry_points.py"}


def _imports(node: ast.AST, module: str) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name == module for alias in node.names)
    return isinstance(node, ast.ImportFrom) and node.module == module


def lists_of_families(tree: ast.Module) -> Iterator[str]:
    """Texts, other than docstrings, that name two families or more."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    for text in texts:
        if text not in docstrings and len(set(re.findall(r"\w+", text)) & set(FAMILIES)) > 1:
            yield text


def test_no_text_lists_the_families() -> None:
    assert list(lists_of_families(ast.parse('HELP = "cnn or gan"')))
    assert {file: found for file, tree in sources() if (found := list(lists_of_families(tree)))} == {}
