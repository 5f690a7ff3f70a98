"""A unit test lies where its module lies: tests/unit/<package>/test_<module>.py, or test_<module>_<what>.py."""

from __future__ import annotations

from pathlib import Path

from tests.support.paths import ROOT

UNIT = ROOT / "tests" / "unit"


def modules_beside(test: Path) -> set[str]:
    """The modules and packages of the folder that a test's folder mirrors."""
    folder = ROOT / test.parent.relative_to(UNIT)
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return packages | {path.stem for path in folder.glob("*.py")}


def test_unit_tests_lie_where_their_modules_lie() -> None:
    tests = sorted(UNIT.rglob("test_*.py"))
    assert len(tests) > 50
    wrong = []
    for test in tests:
        subject = f"{test.stem.removeprefix('test_')}_"
        if not any(subject.startswith(f"{name}_") for name in modules_beside(test)):
            wrong.append(test.relative_to(ROOT).as_posix())
    assert wrong == []
