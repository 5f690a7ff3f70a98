"""The file that all parts of a batch inference are joined to."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worker.kinds import prediction_files
from worker.kinds.prediction_files import ERRORS, ROWS, encode, join

PARTS = 5


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Return the folders of parts with two rows each."""
    folders = [tmp_path / f"part{number}" for number in range(PARTS)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / ROWS).write_bytes(encode(pa.table({"row": [2 * number, 2 * number + 1]}), "parquet"))
        (folder / ERRORS).touch()
    return folders


@pytest.mark.parametrize(("most", "groups"), [(1, 5), (17, 3), (32, 3), (33, 2), (1 << 20, 1)])
def test_parts_become_row_groups_of_enough_bytes(
    tmp_path: Path, parts: list[Path], monkeypatch: pytest.MonkeyPatch, most: int, groups: int
) -> None:
    monkeypatch.setattr(prediction_files, "_GROUP_BYTES", most)  # a part has 16
    (path,) = join(parts, "parquet", tmp_path)
    assert pq.read_metadata(path).num_row_groups == groups
    assert pq.read_table(path).column("row").to_pylist() == list(range(2 * PARTS))


def test_the_file_of_no_parts_has_the_columns(tmp_path: Path) -> None:
    (path,) = join([], "parquet", tmp_path, pa.schema([("row", pa.int64())]))
    assert pq.read_table(path).column("row").to_pylist() == []
