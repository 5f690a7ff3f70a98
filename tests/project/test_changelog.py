"""CHANGELOG.md has the form of Keep a Changelog 1.1, and its newest version is the package's."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHANGES = (ROOT / "CHANGELOG.md").read_text()
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]


def problems(text: str) -> list[str]:
    """What in a changelog is not of the form."""
    found = []
    heads = re.findall(r"^## (.*)$", text, re.M)
    if not text.startswith("# Changelog\n") or heads[:1] != ["[Unreleased]"]:
        found.append("it begins with `# Changelog`, and its first version is `## [Unreleased]`")
    releases = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", head) for head in heads[1:]]
    if not releases or None in releases:
        found.append("a release is `## [X.Y.Z] - YYYY-MM-DD`")
    order = [([int(part) for part in one.groups()[:3]], date.fromisoformat(one[4])) for one in releases if one]
    if order != sorted(order, reverse=True):
        found.append("the newest release comes first")
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        name, _, body = section.partition("\n")
        kinds = re.findall(r"^### (.*)$", body, re.M)
        if kinds != sorted(set(kinds) & set(KINDS), key=KINDS.index):
            found.append(f"{name}: each of {KINDS} at most once, in this order, and nothing else")
    return found


def test_the_form() -> None:
    assert problems(CHANGES) == []


def test_every_change_stands_under_a_kind() -> None:
    for section in re.split(r"^## ", CHANGES, flags=re.M)[1:]:
        before, *kinds = re.split(r"^### ", section, flags=re.M)
        assert before.count("\n- ") == 0, section.splitlines()[0]
        assert all("\n- " in kind for kind in kinds), section.splitlines()[0]


def test_the_newest_release_is_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.findall(r"^## \[(\d[^]]*)\]", CHANGES, re.M)[0] == version


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# Changelog\n", "# Changes\n"),
        ("## [Unreleased]", "## Unreleased"),
        ("- 2026-11-22", "(2026-11-22)"),
        ("### Security", "### Safety"),
        ("### Changed", "### Added"),
    ],
)
def test_a_wrong_form_is_noticed(before: str, after: str) -> None:
    assert before in CHANGES
    assert problems(CHANGES.replace(before, after, 1)) != []


def test_releases_out_of_order_are_noticed() -> None:
    assert problems(CHANGES + "\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- A line.\n") != []


def test_upgrading_begins_with_the_newest_schema() -> None:
    newest = max(path.name[:4] for path in (ROOT / "shared/db/migrations/versions").glob("[0-9]*.py"))
    first = re.findall(r"^## From (.*)$", (ROOT / "UPGRADING.md").read_text(), re.M)[0]
    assert first.endswith(f"to Unreleased (schema {newest})")
