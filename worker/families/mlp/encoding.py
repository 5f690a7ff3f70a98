"""How the columns of a table become inputs of a model: kept in `config.json` as `preprocessing`.

A column of numbers gives one input, standardized, with the median of the training part where it is missing, and a
second one that tells whether it was if the training part misses any. A column of categories gives one input for each
value that is kept, and a last one, `other`, for all that are not: rare, unknown or missing ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shared.lazy_numpy import np

if TYPE_CHECKING:
    from nightshift.families.learner import Array


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers, with the statistics of the training part. Days count from 1970."""

    name: str
    median: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    #: Whether a second input tells that a value is missing.
    marked: bool = False
    kind: str = "numbers"

    @property
    def width(self) -> int:
        return 1 + self.marked

    @property
    def other(self) -> int | None:
        return None

    def write(self, values: Array, inputs: Array) -> None:
        """Write float64 values [n], NaN where missing, into inputs [n, width]."""
        missing = np.isnan(values)
        inputs[:, 0] = (np.where(missing, self.median, values) - self.mean) / self.std
        if self.marked:
            inputs[:, 1] = missing


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories: the texts that are kept, the most frequent one first."""

    name: str
    values: Sequence[str]
    kind: str = "categories"

    @property
    def width(self) -> int:
        return len(self.values) + 1

    @property
    def other(self) -> int | None:
        return len(self.values)

    def write(self, values: Array, inputs: Array) -> None:
        """Write places [n] in `values`, -1 for others, into inputs [n, width] that are zero."""
        inputs[np.arange(len(values)), np.where(values < 0, len(self.values), values)] = 1


Column = NumberColumn | CategoryColumn


@dataclass(frozen=True)
class Encoding:
    """The columns that a model reads, in the order of its inputs."""

    columns: Sequence[Column]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Encoding:
        """Return the encoding in the facts of a learner or in a `config.json`."""
        return cls([_column(column) for column in facts["preprocessing"]["columns"]])

    @property
    def width(self) -> int:
        """The number of inputs."""
        return sum(column.width for column in self.columns)

    def others(self) -> list[int]:
        """Return the inputs that stand for other categories than the kept ones."""
        places, at = [], 0
        for column in self.columns:
            places += [] if column.other is None else [at + column.other]
            at += column.width
        return places

    def as_json(self) -> list[dict[str, Any]]:
        """Return the columns for `config.json`."""
        return [asdict(column) for column in self.columns]


def _column(facts: Mapping[str, Any]) -> Column:
    return NumberColumn(**facts) if facts["kind"] == "numbers" else CategoryColumn(**facts)
