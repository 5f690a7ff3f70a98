"""Affixes and shapes of words."""

from __future__ import annotations

import numpy as np

from worker.training.words.affixes import AFFIXES, BUCKETS, affix_rows, affixes, shape


def test_affixes_and_shapes() -> None:
    assert affixes("Anna") == ("anna", "ann", "nna", "na", "Xxx")
    assert shape("McDonald's") == "XxXxx'x"
    assert shape("1996-08-22") == "dd-dd-dd"
    assert shape("EU") == "XX"


def test_each_affix_has_a_part_of_the_table_of_its_own() -> None:
    for word in ("the", "Zürich", "1996"):
        assert (np.array(affix_rows(word)) // BUCKETS).tolist() == list(range(len(AFFIXES)))
