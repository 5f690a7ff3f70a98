"""The scripts and styles of the pages: facts come from the server, lines are short, no check is switched off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.flower.templating import STATIC
from nightshift.metrics import CHARTS, HEADLINES, OF_STEPS, facts
from shared.specs import supported
from shared.specs.families import FAMILIES

OURS = [
    path for path in sorted(STATIC.rglob("*")) if path.suffix in {".js", ".ts", ".css"} and "vendor" not in path.parts
]
SCRIPTS = [path for path in OURS if path.suffix == ".js"]
_COMMENT = re.compile(r"/\*.*?\*/|^\s*//.*?$", re.S | re.M)
_LITERAL = re.compile(
    r'"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`|(?<=[(=!,:?&|] )/(?:[^/\\\n]|\\.)+/|(?<=\()/(?:[^/\\\n]|\\.)+/'
)
_OFF = re.compile(r"@ts-(?:ignore|nocheck|expect-error)|biome-ignore|eslint-disable")
#: Examples of what a user may type into the search of jobs.
EXAMPLES = "search_help.js"


def literals(path: Path) -> Iterator[str]:
    """Strings, templates and regular expressions."""
    return (match[0][1:-1] for match in _LITERAL.finditer(_COMMENT.sub("", path.read_text())))


def named(word: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def test_there_are_scripts_and_they_have_literals() -> None:
    assert len(SCRIPTS) > 30
    assert "Compare" in {text for path in SCRIPTS for text in literals(path)}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_names_a_kind_or_a_family(path: Path) -> None:
    names = (*supported.kinds(), *FAMILIES)
    assert [text for text in literals(path) for name in names if named(name, text)] == [], "facts.js has them"
    # As a key or variable too; but a part of a data set is called `train` as well.
    assert [name for name in names if name != "train" and named(name, _COMMENT.sub("", path.read_text()))] == []


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.name != EXAMPLES], ids=lambda path: path.name)
def test_no_script_says_anything_of_a_metric_by_its_name(path: Path) -> None:
    words = {*OF_STEPS, *HEADLINES, *CHARTS, *facts()["fractions"]} | {name.rpartition("_")[2] for name in HEADLINES}
    found = [
        text for text in literals(path) for word in words if word in re.split(r"[^a-z0-9_]+|_", text) or text == word
    ]
    assert found == [], "figures.js has what nightshift/metrics.py says"


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_lines_are_short_and_no_check_is_switched_off(path: Path) -> None:
    text = path.read_text()
    assert [line for line in text.splitlines() if len(line) > 120] == []
    assert not _OFF.search(text)
