"""Entities are counted as seqeval counts them, also in sequences that break the rules of their scheme."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.families.tagger.entities import TagScheme, f1, have_entities, ratio

Sequences = list[list[str]]
#: Sentences of tags with the figures of seqeval 1.2.2 in its default mode.
TABLE: list[dict[str, Any]] = json.loads((Path(__file__).parent / "seqeval_1_2_2.json").read_text())


def figures(true: Sequences, predicted: Sequences, names: list[str]) -> tuple[float, float, float]:
    """Return precision, recall and F1."""
    ids = [np.array([names.index(tag) for sentence in every for tag in sentence]) for every in (true, predicted)]
    counts = TagScheme(names).count(ids[0], ids[1], np.array([len(sentence) for sentence in true]))
    hits, of, found = counts.both.sum(), counts.true.sum(), counts.predicted.sum()
    return float(ratio(hits, found)), float(ratio(hits, of)), float(f1(hits, of, found))


def names_of(*every: Sequences) -> list[str]:
    return sorted({tag for sentences in every for sentence in sentences for tag in sentence})


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["case"])
def test_figures_are_those_of_seqeval(row: dict[str, Any]) -> None:
    true, predicted = ([one.split() for one in row[name].split(" / ")] for name in ("true", "predicted"))
    found = figures(true, predicted, names_of(true, predicted))
    assert found == pytest.approx((row["precision"], row["recall"], row["f1"]), abs=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(20))
def test_random_sequences_have_the_figures_of_the_installed_seqeval(seed: int) -> None:
    metrics = pytest.importorskip("seqeval.metrics")
    draw = np.random.default_rng(seed)
    names = [["O", "B-A", "I-A", "B-B", "I-B"], ["O", "I-A", "E-A", "S-A", "B-A", "S-B"]][seed % 2]
    for _ in range(50):
        true = [draw.choice(names, draw.integers(1, 9)).tolist() for _ in range(draw.integers(1, 6))]
        predicted = [[tag if draw.random() < 0.6 else str(draw.choice(names)) for tag in one] for one in true]
        expected = [getattr(metrics, f"{name}_score")(true, predicted) for name in ("precision", "recall", "f1")]
        assert figures(true, predicted, names) == pytest.approx(expected, abs=1e-12)


def test_counts_are_per_sentence_and_type() -> None:
    names = ["O", "B-A", "I-A", "B-B"]
    true, predicted = np.array([1, 2, 0, 3, 1]), np.array([1, 2, 3, 3, 0])
    counts = TagScheme(names).count(true, predicted, np.array([3, 2]))
    kinds = [counts.types.index(kind) for kind in ("A", "B")]
    assert counts.true[:, kinds].tolist() == [[1, 0], [1, 1]]
    assert counts.predicted[:, kinds].tolist() == [[1, 1], [0, 1]]
    assert counts.both[:, kinds].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["O", "B-PER"], True),
        (["O", "I-PER"], True),
        (["S-A", "O"], True),
        (["NOUN", "VERB"], False),
        (["B", "O"], False),
    ],
)
def test_tags_with_a_prefix_mark_entities(names: list[str], expected: bool) -> None:
    assert have_entities(names) is expected
