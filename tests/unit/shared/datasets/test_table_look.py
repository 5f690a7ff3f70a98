"""Tables: what a CSV or Parquet file becomes, and the look at its columns."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from nightshift.errors import InvalidRequest, RequestError, TooLarge
from shared.datasets import previews, registry, table_look, views
from shared.datasets.ingest import build_table
from shared.datasets.models import DatasetVersion
from shared.db.engine import read
from shared.settings import Settings
from tests.support.dataset_files import zipped

MIXED = """id;name;x;ok;day;at;zip;long
1;"a;b";1.5;true;2024-01-01;2024-01-01 10:00;00123;123456789012345678901
2;; NaN;False;2024-02-29;2024-01-02;0456;2

3;"c
d";-2e3;NA;;;1;3
"""

Register = Callable[..., DatasetVersion]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", _env_file=None)


@pytest.fixture
def register(sqlite_engine: Engine, settings: Settings, tmp_path: Path) -> Register:
    def registered(content: str | bytes | pa.Table, name: str = "t", filename: str = "t.csv") -> DatasetVersion:
        path = tmp_path / filename
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return registry.register(sqlite_engine, settings, name, path, kind="table")

    return registered


def rows_of(settings: Settings, version: DatasetVersion) -> pa.Table:
    return pq.read_table(registry.dataset_folder(settings, version) / "table.parquet")


def columns_of(version: DatasetVersion) -> dict[str, dict[str, Any]]:
    json.dumps(version.summary, allow_nan=False)
    return {column["name"]: column for column in version.summary["preview"]["columns"]}


def test_types_follow_from_all_values(register: Register, settings: Settings) -> None:
    table = rows_of(settings, register(MIXED))
    types = [str(type) for type in table.schema.types]
    assert types == ["int64", "string", "double", "bool", "date32[day]", "timestamp[us]", "string", "string"]
    assert table["name"].to_pylist() == ["a;b", None, "c\nd"]
    assert table["x"].to_pylist() == [1.5, None, -2000.0]
    assert table["ok"].to_pylist() == [True, False, None]
    assert table["zip"].to_pylist() == ["00123", "0456", "1"]


@pytest.mark.parametrize(
    ("values", "type"),
    [
        (["1", "2.5"], "double"),
        (["1", "x"], "string"),
        (["true", "1"], "string"),
        (["2024-01-01", "2024-02-30"], "string"),
        (["-0.5", ".5", "1.", "1e5", "inf"], "double"),
        (["+5"], "string"),
        (["", "NA"], "string"),
        (["-7", "0"], "int64"),
    ],
)
def test_a_column_has_the_type_of_all_its_values(
    register: Register, settings: Settings, values: list[str], type: str
) -> None:
    table = rows_of(settings, register("a,b\n" + "".join(f"{value},x\n" for value in values)))
    assert str(table.schema.field("a").type) == type


def test_a_late_value_decides_about_all(
    register: Register, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.datasets.formats.table_csv._PART_VALUES", 8)
    version = register("a,b\n" + "".join(f"{number},{number}\n" for number in range(50)) + "0.5,x\n")
    table = rows_of(settings, version)
    assert [str(type) for type in table.schema.types] == ["double", "string"]
    assert table["a"].to_pylist() == [*map(float, range(50)), 0.5]
    assert version.summary["splits"] == {"rows": {"count": 51}}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_separator_is_that_of_the_header(register: Register, settings: Settings, delimiter: str) -> None:
    table = rows_of(settings, register(f"a{delimiter}b\n1{delimiter}2\n"))
    assert table.to_pylist() == [{"a": 1, "b": 2}]


def test_equal_rows_are_one_version_in_any_file(
    sqlite_engine: Engine, register: Register, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_table, "_GROUP_VALUES", 16)
    text = "a,b\n" + "".join(f"{number},{number / 4}\n" for number in range(21))
    first = register(text)
    table = rows_of(settings, first)
    packed = pa.table({"a": table["a"], "b": table["b"].dictionary_encode()}).replace_schema_metadata({"pandas": "{}"})
    pq.write_table(packed, tmp_path / "other.parquet", row_group_size=5, compression="none")
    assert (
        registry.register(sqlite_engine, settings, "t", tmp_path / "other.parquet").version == 1
    )  # found by its content
    assert register(gzip.compress(text.encode()), filename="t.csv.gz").version == 1
    members = {"data/t.csv": text.encode(), "README.md": b"about"}
    assert registry.register(sqlite_engine, settings, "t", zipped(tmp_path / "t.zip", members)).version == 1
    assert register(text + "21,0\n").version == 2


def test_the_look_has_no_nan_and_no_infinity(register: Register) -> None:
    table = pa.table(
        {
            "x": pa.array([1.0, float("nan"), float("inf"), None, 4.0]),
            "all": pa.array([float("nan")] * 5),
            "n": pa.array([2**60, 1, 1, 1, 3]),
        }
    )
    version = register(table, filename="t.parquet")
    columns = columns_of(version)
    x = columns["x"]
    assert (x["nulls"], x["distinct"], x["min"], x["max"], x["mean"]) == (2, 3, 1.0, 4.0, 2.5)
    assert (columns["all"]["nulls"], columns["all"]["min"], columns["all"]["mean"]) == (5, None, None)
    assert columns["n"]["max"] == str(2**60)  # JavaScript would round it
    assert version.summary["preview"]["rows"][2] == [None, None, 1]


def test_the_look_describes_each_kind_of_column(register: Register) -> None:
    columns = columns_of(register(MIXED))
    day, ok, name = columns["day"], columns["ok"], columns["name"]
    assert (day["min"], day["max"], day["nulls"], day["top"]) == ("2024-01-01", "2024-02-29", 1, None)
    assert ok["top"] == [{"value": False, "count": 1}, {"value": True, "count": 1}]
    assert (name["distinct"], name["top"][1]) == (2, {"value": "c\\u000ad", "count": 1})
    assert (columns["id"]["mean"], columns["id"]["distinct"]) == (2.0, 3)


def test_frequent_values_come_first_and_many_values_are_capped(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_look, "DISTINCT", 4)
    monkeypatch.setattr(table_look, "_READ_ROWS", 5)
    colors = ["red"] * 7 + ["blue"] * 5 + ["green"]
    version = register("color,n\n" + "".join(f"{color},{place}\n" for place, color in enumerate(colors)))
    color, n = columns_of(version).values()
    assert [(one["value"], one["count"]) for one in color["top"]] == [("red", 7), ("blue", 5), ("green", 1)]
    assert (color["distinct"], color["distinct_is_capped"]) == (3, False)
    assert (n["distinct"], n["distinct_is_capped"], n["mean"]) == (4, True, 6.0)


def test_types_of_parquet_that_have_no_look_are_stored_and_shown_as_dots(
    register: Register, settings: Settings
) -> None:
    table = pa.table(
        {
            "vector": pa.array([[1.0, 2.0], None]),
            "raw": pa.array([b"\xff", b""]),
            "at": pa.array([10**18, 0], pa.timestamp("ns", "Mars/Base")),
            "took": pa.array([5, 7], pa.duration("s")),
            "price": pa.array([1, 2], pa.decimal128(5, 2)),
        }
    )
    version = register(table, filename="t.parquet")
    assert rows_of(settings, version)["vector"].to_pylist() == [[1.0, 2.0], None]
    columns = columns_of(version)
    assert (columns["vector"]["nulls"], columns["vector"]["distinct"]) == (1, None)
    assert columns["at"]["max"] == "2001-09-09 01:46:40"
    assert (columns["price"]["mean"], columns["took"]["max"]) == (1.5, 7)
    assert version.summary["preview"]["rows"][0][:2] == ["…", "…"]


def test_a_wide_table_shows_its_first_columns(register: Register) -> None:
    names = [f"c{place}" for place in range(300)]
    version = register(",".join(names) + "\n" + ",".join("1" * 300) + "\n")
    preview = version.summary["preview"]
    assert (len(preview["columns"]), preview["column_count"], len(preview["rows"][0])) == (200, 300, 200)


def test_a_sample_is_the_first_rows(register: Register, settings: Settings) -> None:
    version = register('a,b\n1,"x,y"\n2,\n' + "3,z\n" * 20)
    content, media_type = previews.preview(registry.dataset_folder(settings, version))
    assert (content.decode().split("\n")[:3], media_type) == (["a,b", '1,"x,y"', "2,"], "text/csv; charset=utf-8")
    assert content.count(b"\n") == 11


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a,b\n1,2\n3\n", "t.csv, line 3: has 1 field, but the first line names 2 columns"),
        (b'a,b\n"1\n",2\n3,4,5\n', "t.csv, line 4: has 3 fields"),
        (b"", "t.csv, line 1: is empty"),
        (b"\n1,2\n", "t.csv, line 1: is empty"),
        (b"a,a\n1,2\n", "t.csv, line 1: has two columns named 'a'"),
        (b"a,b\x01\n1,2\n", "t.csv, line 1: has a column whose name"),
        (b"a,b\n", "t.csv, line 1: has no rows below its header"),
        (b'a,b\n1,"x\n', "t.csv, line 2: is not valid CSV"),
        (b"a,b\n1,2\n3,\xff\n", "t.csv, line 3: is not UTF-8"),
        (b"a,b\n1,\x00\n", "t.csv, line 2: holds a NUL"),
        (b"PAR1 and more", "t.csv: is cut off or no Parquet file"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(
    register: Register, settings: Settings, content: bytes, problem: str
) -> None:
    with pytest.raises(RequestError) as refused:
        register(content)
    assert problem in str(refused.value)
    assert not list((settings.storage_root / "datasets").glob("*"))


def test_a_quote_that_is_never_closed_is_found_before_memory_is_full(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.datasets.formats.table_csv.MAX_ROW", 1_000)
    with pytest.raises(InvalidRequest, match="has a row of more than 1,000 bytes; is a quote not closed"):
        register('a,b\n1,"' + "x\n" * 2_000)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), "has two columns named 'a'"),
        (pa.table({"a": pa.array([], pa.int64())}), "has no rows"),
        (pa.table({}), "has no columns"),
    ],
)
def test_a_parquet_file_that_is_no_table_is_refused(register: Register, table: pa.Table, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        register(table, filename="t.parquet")


def test_text_in_parquet_must_be_utf_8(register: Register) -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")]
    )
    with pytest.raises(RequestError, match="UTF8"):
        register(pa.table({"a": broken}), filename="t.parquet")


def test_a_small_file_of_very_many_rows_is_refused(sqlite_engine: Engine, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", _env_file=None, max_dataset_bytes=1_000_000)
    pq.write_table(pa.table({"a": pa.array(np.zeros(2_000_000))}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 1_000_000
    with pytest.raises(TooLarge):
        registry.register(sqlite_engine, settings, "t", tmp_path / "t.parquet")


def test_several_tables_are_refused(sqlite_engine: Engine, settings: Settings, tmp_path: Path) -> None:
    members = {"train.csv": b"a\n1\n", "test.csv": b"a\n1\n"}
    with pytest.raises(InvalidRequest, match="holds 2 files, but a table is one CSV or Parquet file"):
        registry.register(sqlite_engine, settings, "t", zipped(tmp_path / "t.zip", members), kind="table")


def test_only_the_named_version_has_the_look(sqlite_engine: Engine, register: Register) -> None:
    register("a\n1\n")
    register("b\n2\n")
    with read(sqlite_engine) as conn:
        shown = [views.show(conn, ref)["preview"]["columns"][0]["name"] for ref in ("t", "t@1")]
        assert "preview" not in views.list_datasets(conn)[0]
    assert shown == ["b", "a"]
