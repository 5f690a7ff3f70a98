"""What is said at registration of a table that needs cleaning: missing, doubled, constant, odd, unreadable values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from shared.datasets import registry, table_cleaning, table_look
from shared.datasets.near_numbers import exceptions
from shared.datasets.row_hashes import row_hashes
from shared.settings import Settings

Look = Callable[..., dict[str, Any]]


@pytest.fixture
def look(sqlite_engine: Engine, tmp_path: Path) -> Look:
    def looked(content: str | pa.Table) -> dict[str, Any]:
        path = tmp_path / ("t.csv" if isinstance(content, str) else "t.parquet")
        if isinstance(content, str):
            path.write_text(content)
        else:
            pq.write_table(content, path)
        settings = Settings(data_dir=tmp_path / "data", _env_file=None)
        version = registry.register(sqlite_engine, settings, "t", path, kind="table")
        preview: dict[str, Any] = version.summary["preview"]
        return preview

    return looked


def column(preview: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in preview["columns"] if one["name"] == name)


def test_the_report_counts_what_is_missing_doubled_and_constant(look: Look) -> None:
    found = look("a,b,same,none\n1,x,7,\n2,,7,\n1,x,7,\n,,7,\n1,x,7,\n2,,7,\n")["report"]
    assert (found["missing"], found["with_missing"]) == (1 + 3 + 6, ["a", "b", "none"])
    assert found["duplicates"] == {"count": 3, "of": 6}
    assert (found["constant"], found["empty"]) == (["same"], ["none"])


def test_a_column_of_text_that_is_nearly_numbers_is_named_with_the_first_bad_line(look: Look) -> None:
    rows = [f'{n}.5,"two\nlines",{n:05d}' for n in range(60)]
    rows[40] = "abc,x,7"
    rows[50] = "def,x,7"
    preview = look("age,note,zip\n" + "\n\n".join(rows) + "\n")
    # Each row above takes two lines and an empty one, and the header one.
    assert column(preview, "age")["not_numbers"] == {"count": 2, "of": 60, "value": "abc", "row": 41, "line": 122}
    assert preview["report"]["not_numbers"] == ["age"]
    assert column(preview, "zip")["not_numbers"] is None
    assert column(preview, "note")["not_numbers"] is None


def test_lines_are_not_invented_after_too_many_jumps(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.datasets.formats.table_csv._MAX_SKIPS", 5)
    rows = [f"{n},x" for n in range(60)]
    rows[50] = "abc,x"
    bad = column(look("age,note\n" + "\n\n".join(rows) + "\n"), "age")["not_numbers"]
    assert (bad["row"], bad["line"]) == (51, None)


def test_a_file_of_parquet_has_rows_and_no_lines(look: Look) -> None:
    values = [str(n) for n in range(40)] + ["?"]
    bad = column(look(pa.table({"x": values})), "x")["not_numbers"]
    assert (bad["row"], bad["line"], bad["value"]) == (41, None, "?")


@pytest.mark.parametrize(
    ("values", "count"),
    [
        (["1"] * 19 + ["x"], 1),
        (["1"] * 18 + ["x"] * 2, None),
        (["1", "2"], None),
        (["1"] * 30 + ["NA", "", None, "x"], 1),
        (["12345"] * 30 + ["01234"], None),
        (["x"], None),
    ],
)
def test_what_is_nearly_numbers(values: list[str | None], count: int | None) -> None:
    chunks = pa.chunked_array([pa.array(values[:7], pa.string()), pa.array(values[7:], pa.string())])
    found = exceptions(chunks)
    assert (found.count if found else None) == count


def test_outliers_are_those_of_a_box_plot(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_look, "_READ_ROWS", 7)
    draw = np.random.default_rng(1)
    x = np.concatenate([draw.normal(size=200), [9.0, -12.0, np.nan, np.inf]])
    preview = look(pa.table({"x": x, "flag": [0] * 203 + [1], "n": np.arange(204)}))
    low, high = np.quantile(x[np.isfinite(x)], (0.25, 0.75))
    found = column(preview, "x")["outliers"]
    assert found["low"] == pytest.approx(low - 1.5 * (high - low))
    assert found["high"] == pytest.approx(high + 1.5 * (high - low))
    inside = (x >= found["low"]) & (x <= found["high"])
    assert found["count"] == int((~inside & np.isfinite(x)).sum()) >= 2
    assert column(preview, "flag")["outliers"] is None  # more than half of its values are one number
    assert column(preview, "n")["outliers"]["count"] == 0
    assert (preview["report"]["with_outliers"], preview["report"]["outliers"]) == (["x"], found["count"])


def test_quartiles_of_a_long_table_come_from_evenly_spaced_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_cleaning, "SAMPLE", 100)
    outliers = table_cleaning.Outliers(1_000, 2)
    parts = [pa.array(np.arange(first, min(first + 33, 1_000), dtype=float)) for first in range(0, 1_000, 33)]
    for part in parts:
        outliers.sample(part)
    assert sum(map(len, outliers._taken)) == 50
    for part in [*parts, pa.array([5_000.0, -2_000.0, 1_400.0])]:
        outliers.count(part)
    found = outliers.facts()
    assert found is not None
    assert found["count"] == 2
    assert found["low"] == pytest.approx(-500, abs=30)


def test_equal_rows_have_equal_hashes_and_others_have_not() -> None:
    draw = np.random.default_rng(0)
    texts = ["", "a", "ab", "ba", "b", None, "aab", "aba", "baa", "ä"]
    values = {
        "text": [texts[place] for place in draw.integers(0, len(texts), 5_000)],
        "number": [None if n > 40 else float(n) - 20 for n in draw.integers(0, 45, 5_000)],
        "whole": draw.integers(-3, 3, 5_000).tolist(),
        "truth": [bool(n) for n in draw.integers(0, 2, 5_000)],
        "day": draw.integers(0, 4, 5_000).tolist(),
    }
    table = pa.table({**values, "day": pa.array(values["day"], pa.int32()).cast(pa.date32())})
    hashes = np.concatenate([row_hashes(batch.columns) for batch in table.to_batches(max_chunksize=777)])
    rows = list(zip(*table.to_pydict().values(), strict=True))
    assert len(np.unique(hashes)) == len(set(rows)) < 5_000
    of_row: dict[Any, int] = {}
    for row, found in zip(rows, hashes.tolist(), strict=True):
        assert of_row.setdefault(row, found) == found


def test_columns_in_another_order_and_moved_values_are_other_rows() -> None:
    def hashes(*columns: list[Any]) -> list[int]:
        found = row_hashes([pa.array(values) for values in columns])
        assert found is not None
        return found.tolist()

    assert hashes(["ab"], ["c"]) != hashes(["a"], ["bc"])
    assert hashes(["a"], ["b"]) != hashes(["b"], ["a"])
    assert hashes([None, 1.0], [1.0, None])[0] != hashes([None, 1.0], [1.0, None])[1]
    assert hashes([0.0], ["x"]) == hashes([-0.0], ["x"])
    assert hashes([float("nan")], ["x"]) == row_hashes([pa.array([None], pa.float64()), pa.array(["x"])]).tolist()  # type: ignore[union-attr]


def test_rows_with_lists_are_not_compared(look: Look) -> None:
    preview = look(pa.table({"v": [[1.0], [1.0]], "n": [1, 1]}))
    assert preview["report"]["duplicates"] is None


def test_only_the_first_rows_of_a_very_long_table_are_compared(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_cleaning, "COMPARED", 5)
    monkeypatch.setattr(table_look, "_READ_ROWS", 2)
    assert look("a\n1\n1\n2\n3\n1\n1\n1\n")["report"]["duplicates"] == {"count": 2, "of": 5}
