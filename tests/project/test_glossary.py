"""docs/glossary.md names modules that exist, and each term once."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

ROWS = re.findall(r"^\| ([^|]+) \| [^|]+ \| `([^`]+)` \|$", (ROOT / "docs" / "glossary.md").read_text(), re.M)


def test_every_term_names_a_module_that_exists() -> None:
    assert len(ROWS) > 40
    assert [(term, place) for term, place in ROWS if not (ROOT / place).exists()] == []


def test_terms_are_explained_once() -> None:
    terms = [term for term, _ in ROWS]
    assert len(terms) == len(set(terms))
