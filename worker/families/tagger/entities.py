"""Entities in sequences of tags, found and counted as `seqeval` does in its default mode (as conlleval does).

A tag is a prefix and a type: `B-PER`. An entity begins at B and S, at I and E after O or after another entity's end,
and where the type changes; it ends before the next entity and before O. So IOB1, IOB2 and IOBES are all read, and
sequences that break their rules have entities, too. A tag without a type has the type `_`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from shared.lazy_numpy import np

if TYPE_CHECKING:
    import numpy.typing as npt


Ints: TypeAlias = "npt.NDArray[np.int64]"

_PREFIXED = re.compile(r"[BIES]-.")
_NONE = "_"
#: The pairs of prefixes, before and after a boundary between two tokens, at which an entity of one type ends or begins.
_ENDS = {"BB", "BS", "BO", "IB", "IS", "IO"}
_STARTS = {"EE", "EI", "SE", "SI", "OE", "OI"}
_ALWAYS_END, _ALWAYS_START, _OUTSIDE = "ES", "BS", "O."


def have_entities(tags: Sequence[str]) -> bool:
    """Return whether tags mark entities (`B-PER`), which tags of parts of speech do not."""
    return any(_PREFIXED.match(tag) for tag in tags)


@dataclass(frozen=True)
class Counts:
    """Entities of each sentence and type, [sentences, types]: true ones, predicted ones, and those that are both."""

    types: list[str]
    true: Ints
    predicted: Ints
    both: Ints


@dataclass(frozen=True)
class Spans:
    """Entities by their last token: where each begins, and its type; -1 at tokens that end none."""

    begin: Ints
    type: Ints


class TagScheme:
    """The prefixes and types of the tags with these names."""

    def __init__(self, names: Sequence[str]) -> None:
        prefixes = [name[0] for name in names]
        types = [name[1:].split("-", 1)[-1] or _NONE for name in names]
        letters = sorted({*prefixes, "O"})
        self.types = sorted({*types, _NONE})
        self._prefix = np.array([letters.index(one) for one in prefixes], np.int64)
        self._type = np.array([self.types.index(one) for one in types], np.int64)
        self._outside = (letters.index("O"), self.types.index(_NONE))
        self._ends = np.array([[a + b in _ENDS or a in _ALWAYS_END for b in letters] for a in letters])
        self._starts = np.array([[a + b in _STARTS or b in _ALWAYS_START for b in letters] for a in letters])
        self._is_outside = np.array([letter in _OUTSIDE for letter in letters])

    def spans(self, ids: Ints, lengths: Ints) -> Spans:
        """Return the entities of sentences whose tags stand one after another, with a place after each sentence."""
        places = np.arange(len(ids)) + np.repeat(np.arange(len(lengths)), lengths)
        size = len(ids) + len(lengths)
        prefix, kind = np.full(size, self._outside[0]), np.full(size, self._outside[1])
        prefix[places], kind[places] = self._prefix[ids], self._type[ids]
        before = np.concatenate([[self._outside[0]], prefix[:-1]])
        changes = np.concatenate([[True], kind[1:] != kind[:-1]])  # the first token has no type before it
        starts = self._starts[before, prefix] | (changes & ~self._is_outside[prefix])
        ends = (self._ends[before, prefix] | (changes & ~self._is_outside[before]))[1:]
        first = np.maximum.accumulate(np.where(starts, np.arange(size), 0))[:-1]
        return Spans(np.where(ends, first, -1), np.where(ends, kind[:-1], -1))

    def count(self, true: Ints, predicted: Ints, lengths: Ints) -> Counts:
        """Count the entities of sentences whose tags stand one after another."""
        sentence = np.repeat(np.arange(len(lengths)), lengths + 1)[:-1]
        one, other = self.spans(true, lengths), self.spans(predicted, lengths)
        same = (one.begin == other.begin) & (one.type == other.type)

        def counted(spans: Spans, chosen: Any) -> Ints:
            cells = sentence[chosen] * len(self.types) + spans.type[chosen]
            counts = np.bincount(cells, minlength=len(lengths) * len(self.types))
            return counts.reshape(len(lengths), len(self.types)).astype(np.int64)

        here, there = one.begin >= 0, other.begin >= 0
        return Counts(self.types, counted(one, here), counted(other, there), counted(one, here & same))


def ratio(hits: npt.ArrayLike, of: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return hits / of, and 0 where there is nothing."""
    part, whole = np.asarray(hits, np.float64), np.asarray(of, np.float64)
    found: npt.NDArray[np.float64] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return found


def f1(hits: npt.ArrayLike, true: npt.ArrayLike, predicted: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the harmonic mean of precision and recall."""
    return ratio(np.asarray(hits, np.float64) * 2, np.asarray(true, np.float64) + np.asarray(predicted, np.float64))
