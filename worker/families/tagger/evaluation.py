"""Evaluation of a tagger on its test part: tokens, entities, and the worst sentences to read."""

from __future__ import annotations

from typing import Any

import numpy as np

from nightshift.families.learner import Array, Evaluation, Learner
from nightshift.families.training import Training
from worker.families.tagger.data import TaggedSentences
from worker.families.tagger.entities import f1, have_entities, ratio
from worker.families.tagger.family import TaggerModel
from worker.families.tagger.per_example import SentenceScores
from worker.families.tagger.predicted import Predicted, predict

#: Sentences shown beside the figures, and the most tokens of each.
WORST, MOST_TOKENS = 10, 200


def report(learner: Learner, splits: TaggedSentences, model: TaggerModel, training: Training) -> Evaluation:
    """Return the metrics of the test part; the document also has figures per tag and type, and the worst sentences."""
    if splits.test is None:
        return Evaluation({})
    names, found = list(splits.facts["tags"]), predict(learner, splits.test)
    scores, marked = SentenceScores.of(found, names), have_entities(names)
    kinds = ("f1_entity", "precision_entity", "recall_entity") if marked else ("f1_macro",)
    metrics = {name: scores.score(name) for name in ("test_loss", "test_accuracy", *kinds)}
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (found.true, found.predicted), 1)
    document = {
        "classes": names,
        "sentences": len(found.lengths),
        "tokens": len(found.true),
        "metrics": metrics,
        "per_class": _figures("class", names, confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()),
        "confusion_matrix": confusion.tolist(),
        "worst_sentences": _worst(found, names, splits),
    }
    if marked:
        counts = scores.entities
        parts = (part.sum(axis=0) for part in (counts.true, counts.predicted, counts.both))
        rows = _figures("entity", counts.types, *parts)
        document["per_entity"] = [row for row in rows if row["support"] or row["predicted"]]
    return Evaluation(metrics, document)


def _figures(what: str, names: list[str], true: Array, predicted: Array, both: Array) -> list[dict[str, Any]]:
    columns = zip(
        names, ratio(both, predicted), ratio(both, true), f1(both, true, predicted), true, predicted, strict=True
    )
    return [
        {
            what: name, "precision": float(precision), "recall": float(recall), "f1": float(both_of),
            "support": int(support), "predicted": int(count),
        }
        for name, precision, recall, both_of, support, count in columns
    ]  # fmt: skip


def _worst(found: Predicted, names: list[str], splits: TaggedSentences) -> list[dict[str, Any]]:
    """Return the sentences with errors whose tokens have the largest mean loss, the worst one first."""
    wrong = np.add.reduceat(found.true != found.predicted, found.first) > 0
    means = np.where(wrong, np.add.reduceat(found.losses, found.first) / found.lengths, -1.0)
    rows = [int(row) for row in np.argsort(-means, kind="stable")[:WORST] if wrong[row]]
    return [
        {
            "row": row,
            "loss": float(means[row]),
            "tokens": words[:MOST_TOKENS],
            "tags": [names[tag] for tag in _of(found, found.true, row)],
            "predicted": [names[tag] for tag in _of(found, found.predicted, row)],
        }
        for row, words in zip(rows, splits.words("test", rows), strict=True)
    ]


def _of(found: Predicted, tags: Array, row: int) -> list[int]:
    first = int(found.first[row])
    shown: list[int] = tags[first : first + min(int(found.lengths[row]), MOST_TOKENS)].tolist()
    return shown
