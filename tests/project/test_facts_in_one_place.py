"""Facts that once stood in several places stand in one: where a pattern may appear."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Pattern -> the files of production code that hold it.
HOMES = {
    r"\bimport pynvml\b|\bnvmlInit\b": {"shared/fleet/nvml.py"},
    r"def _?fsync_folder\b|os\.open\(\w+, os\.O_RDONLY\)": {"shared/fsync.py"},
    r"/ \"?(?:stat|statm|meminfo)\b|\"/proc/meminfo\"|\"/proc/stat\"|listdir\(\"/proc\"\)": set[str](),
    r"\bmath\.ceil\(.*batch_size|-\(-.*// .*batch_size\)$": {"shared/specs/training.py"},
    r"\bdef outranks\b": {"shared/jobs/states.py"},
    r"_STRENGTH\b": set[str](),
    r"^class Checkpoint(?:Record|Row)\b": {"shared/job_files/checkpoint_record.py"},
    r"TEST_KINDS|\bfsspec\b|\bs3fs\b": set[str](),
}


def sources() -> dict[str, str]:
    files = (path for folder in ("api", "shared", "worker") for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in files}


@pytest.mark.parametrize("pattern", HOMES)
def test_a_fact_stands_where_it_belongs(pattern: str) -> None:
    assert {name for name, text in sources().items() if re.search(pattern, text, re.M)} == HOMES[pattern]


def test_no_package_is_empty() -> None:
    """A folder with nothing but `__init__.py` is left over."""
    for marker in (path for folder in ("api", "shared", "worker") for path in (ROOT / folder).rglob("__init__.py")):
        others = [path for path in marker.parent.iterdir() if path.name not in ("__init__.py", "__pycache__")]
        assert others or marker.read_text().strip(), marker
