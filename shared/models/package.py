"""Download of a version: its files as one zip, streamed in bounded memory, or its ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from sqlalchemy import Connection, func, select

from nightshift.errors import NotFound
from shared.db.schema import artifacts, model_versions
from shared.job_files.artifact_files import ONNX
from shared.models import registry
from shared.specs.families import FAMILIES

#: Bytes read at a time.
_CHUNK = 1_000_000
#: Folder of the model in a job's artifacts.
_FOLDER = "model/"


def files_of(conn: Connection, name: str, selector: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the version that a number or alias refers to, and the rows of its files. Raises NotFound."""
    number = registry.selected(conn, name, selector)
    this = (model_versions.c.name == name, model_versions.c.version == number)
    job_id = conn.scalar(select(model_versions.c.job_id).where(*this))
    of_model = (artifacts.c.job_id == job_id, artifacts.c.path.startswith(_FOLDER))
    # An attempt that died after it had listed its model may have left files of other names.
    newest = select(func.max(artifacts.c.fence)).where(*of_model).scalar_subquery()
    rows = conn.execute(
        select(
            artifacts.c.path, artifacts.c.stored_as, artifacts.c.size_bytes, artifacts.c.sha256, artifacts.c.media_type
        )
        .where(*of_model, artifacts.c.fence == newest)
        .order_by(artifacts.c.path)
    )
    found = [dict(row) for row in rows.mappings()]
    if number is None or not found:
        raise NotFound.of("model version", f"{name}@{selector}")
    return number, found


def onnx_of(conn: Connection, name: str, selector: str) -> tuple[int, dict[str, Any]]:
    """Return the version that a number or alias refers to, and the row of its ONNX file. Raises NotFound."""
    number, rows = files_of(conn, name, selector)
    found = next((row for row in rows if row["path"] == f"{_FOLDER}{ONNX}"), None)
    if found is None:
        raise NotFound(f"{name}@{number} has no ONNX file: {_why_no_onnx(conn, name, number)}.")
    return number, found


def _why_no_onnx(conn: Connection, name: str, number: int) -> str:
    this = (model_versions.c.name == name, model_versions.c.version == number)
    made_by = conn.scalar(select(model_versions.c.family).where(*this))
    family = FAMILIES.get(str(made_by))
    if family is None:
        return f"{made_by} is no family of this server"
    if family.parts.export_onnx is None:
        return f"the family {made_by} has no ONNX network"
    return (
        "the log of its job says why, unless an earlier version trained it; a job that trains or fine-tunes writes one"
    )


def zipped(folder: str, files: Iterable[tuple[str, Callable[[], BinaryIO]]]) -> Iterator[bytes]:
    """Yield a zip of files (path, how to open it) in `folder`, uncompressed: weights hardly shrink."""
    sink: Any = _Sink()
    with ZipFile(sink, "w", ZIP_STORED) as archive:
        for path, opened in files:
            info = ZipInfo(f"{folder}/{path.removeprefix(_FOLDER)}")
            info.external_attr = 0o644 << 16
            with opened() as source, archive.open(info, "w", force_zip64=True) as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)
                    yield sink.taken()
    yield sink.taken()


class _Sink:
    """An unseekable output of a zip whose data is taken in pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
