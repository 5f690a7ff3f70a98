"""How the kind of a data set is chosen, and what a kind refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from nightshift.errors import InvalidRequest
from shared.datasets import registry
from shared.settings import Settings

REVIEWS = b"text,label\ngood,1\nbad,0\nfine,1\nawful,0\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", _env_file=None)


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_bytes(REVIEWS)
    return path


@pytest.mark.parametrize(("kind", "stored"), [(None, "text"), ("text", "text"), ("table", "table"), ("files", "files")])
def test_the_kind_can_be_named(
    sqlite_engine: Engine, settings: Settings, reviews: Path, kind: str | None, stored: str
) -> None:
    assert registry.register(sqlite_engine, settings, "reviews", reviews, kind=kind).summary["kind"] == stored


@pytest.mark.parametrize(
    ("chosen", "field", "problem"),
    [
        ({"kind": "image"}, "kind", "is image, but reviews.csv holds text data"),
        ({"kind": "video"}, "kind", "'video' is unknown; use one of image, text, files, table"),
        ({"kind": "table", "format": "csv"}, "format", "is for images and text; leave it out for kind table"),
        ({"kind": "files", "format": "csv"}, "format", "is for images and text; leave it out for kind files"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused(
    sqlite_engine: Engine, settings: Settings, reviews: Path, chosen: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        registry.register(sqlite_engine, settings, "reviews", reviews, **chosen)
    assert [(error.loc, error.msg) for error in refused.value.errors] == [((field,), problem)]


def test_a_table_gets_tables_and_files_name_their_kind_each_time(
    sqlite_engine: Engine, settings: Settings, reviews: Path
) -> None:
    for kind in ("table", "files"):
        registry.register(sqlite_engine, settings, f"of-{kind}", reviews, kind=kind)
    reviews.write_bytes(REVIEWS + b"so so,0\n")
    assert registry.register(sqlite_engine, settings, "of-table", reviews).summary["splits"]["rows"]["count"] == 5
    with pytest.raises(InvalidRequest, match="'of-files' holds plain files, so name the kind files"):
        registry.register(sqlite_engine, settings, "of-files", reviews)
    with pytest.raises(InvalidRequest, match="'of-table' holds a table, but this is plain files"):
        registry.register(sqlite_engine, settings, "of-table", reviews, kind="files")


@pytest.mark.parametrize(("kind", "noun"), [("table", "a table"), ("files", "plain files")])
def test_files_and_tables_are_not_appended_to(
    sqlite_engine: Engine, settings: Settings, reviews: Path, kind: str, noun: str
) -> None:
    registry.register(sqlite_engine, settings, "mine", reviews, kind=kind)
    with pytest.raises(InvalidRequest, match=f"'mine' holds {noun}, which cannot be appended to"):
        registry.append(sqlite_engine, settings, "mine", reviews)


def test_a_table_is_not_appended_to_text(
    sqlite_engine: Engine, settings: Settings, reviews: Path, tmp_path: Path
) -> None:
    registry.register(sqlite_engine, settings, "reviews", reviews)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    with pytest.raises(InvalidRequest, match="holds a table, but the data set holds text data"):
        registry.append(sqlite_engine, settings, "reviews", tmp_path / "t.parquet")
