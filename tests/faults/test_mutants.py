"""Every mutant can still be made: `python -m tests.faults.mutants` says which test notices which."""

from __future__ import annotations

import pytest

from tests.faults.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_changes_is_there_once(mutant: Mutant) -> None:
    for file, old, new in mutant.patches:
        assert (ROOT / file).read_text().count(old) == 1
        assert old != new
