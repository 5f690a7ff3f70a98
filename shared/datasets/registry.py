"""Data sets by name: register, resolve, list, show. The rows are in SQL, the bytes in `shared.datasets.store`.

Order of a registration: the version is complete on disk, then one transaction writes its rows. A crash in between
leaves a folder without a row; registering again finds the folder and writes the row.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Engine, RowMapping, func, insert, select
from sqlalchemy.exc import IntegrityError

from shared.artifacts.layout import dataset_dir
from shared.clock import db_now, iso
from shared.datasets import builtins, formats
from shared.datasets.building import ImageSource, Limits, store_images
from shared.datasets.building_text import TextSource, store_text
from shared.datasets.builtins import BUILTIN
from shared.datasets.complaints import printable
from shared.datasets.files import open_files
from shared.datasets.models import Dataset, DatasetVersion
from shared.datasets.store import META, Stored, sweep
from shared.db.engine import read, write
from shared.errors import InvalidRequest, NotFound, TooLarge
from shared.settings import Settings
from shared.specs.base import Name

_datasets = Dataset.__table__  # type: ignore[attr-defined]
_versions = DatasetVersion.__table__  # type: ignore[attr-defined]

_name: TypeAdapter[str] = TypeAdapter(Name)

#: Registrations of one name that may collide before the last loser gives up (Postgres; SQLite writers queue).
_TRIES = 10


def ensure_builtin(engine: Engine, settings: Settings, name: str) -> DatasetVersion:
    """The newest version of a built-in set, registered first where that is needed. Raises NotFound for other names,
    InvalidRequest where its files are neither in NIGHTSHIFT_DATASETS_DIR nor to be had by download (minutes)."""
    if name not in BUILTIN:
        raise NotFound(f"There is no built-in data set {name!r}; there are {', '.join(BUILTIN)}.")
    with read(engine) as conn:
        known = _newest(conn, name)
    if known and (dataset_folder(settings, known) / META).exists():
        return known
    with builtins.source(settings, name) as source:
        return enter(engine, name, _store(settings, source), builtin=True)


def register(
    engine: Engine,
    settings: Settings,
    name: str,
    path: Path,
    format: str | None = None,
    *,
    filename: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> DatasetVersion:
    """Register a folder or a file under a name; content it already has returns the version that is there.

    `format` is one of `formats.FORMATS`, or None: told by names and content. `filename` is what the user called an
    upload; `image_size` (height, width) overrides the size that images in files are stored at.
    Raises InvalidRequest, MalformedRequest, TooLarge or UnsupportedMedia, naming file and line; then nothing is kept.
    """
    _check_name(name)
    if not path.exists():
        raise InvalidRequest.field(("file",), f"{printable(str(path))} does not exist")
    sweep(_root(settings))
    with open_files(path, filename) as files:
        found = formats.read(files, format, image_size=image_size)
        if name in builtins.CLASSES:
            found = builtins.named(found, name)
        return enter(engine, name, _store(settings, found), builtin=name in BUILTIN)


def _check_name(name: str) -> None:
    try:
        _name.validate_python(name)
    except ValidationError as error:
        raise InvalidRequest.field(("name",), error.errors()[0]["msg"]) from None
    if name == "digits":
        raise InvalidRequest.field(("name",), "'digits' comes with Nightshift and does not change; choose another name")


def _store(settings: Settings, source: ImageSource | TextSource) -> Stored:
    limits = Limits(settings.max_dataset_bytes)
    try:
        if isinstance(source, ImageSource):
            return store_images(_root(settings), source, limits)
        return store_text(_root(settings), source, limits)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TooLarge("The disk is full; nothing was registered.") from error
        raise


def _root(settings: Settings) -> Path:
    return settings.storage_root / "datasets"


def enter(engine: Engine, name: str, stored: Stored, *, builtin: bool = False) -> DatasetVersion:
    """Write the rows of a version that is on disk. Content the name already has returns its present version."""
    for _ in range(_TRIES):
        try:
            with write(engine) as conn:
                return _enter(conn, name, stored, builtin)
        except IntegrityError:
            continue  # another process entered a version of this name meanwhile; look again
    raise InvalidRequest.field(("name",), f"too many registrations of {name!r} at the same time; try again")


def _enter(conn: Connection, name: str, stored: Stored, builtin: bool) -> DatasetVersion:
    kind = conn.scalar(select(_datasets.c.kind).where(_datasets.c.name == name))
    if kind is None:
        row = {"name": name, "kind": stored.meta["kind"], "builtin": builtin, "created_at": db_now()}
        conn.execute(insert(_datasets).values(row))
    elif kind != stored.meta["kind"]:
        raise InvalidRequest.field(
            ("name",), f"{name!r} holds {kind} data, this is {stored.meta['kind']}; choose another name"
        )
    same = conn.execute(
        select(_versions).where(_versions.c.name == name, _versions.c.sha256 == stored.sha256)
    ).mappings().first()  # fmt: skip
    if same:
        return _version(same)
    last = conn.scalar(select(func.max(_versions.c.version)).where(_versions.c.name == name)) or 0
    values = {
        "name": name, "version": last + 1, "sha256": stored.sha256, "size_bytes": stored.meta["size_bytes"],
        "summary": stored.meta, "created_at": db_now(),
    }  # fmt: skip
    return _version(conn.execute(insert(_versions).values(values).returning(_versions)).mappings().one())


def resolve(conn: Connection, ref: str) -> DatasetVersion:
    """`name` is its newest version, `name@3` that one. Raises NotFound saying what there is."""
    name, at, number = ref.partition("@")
    if not at:
        found = _newest(conn, name)
    elif number.isascii() and number.isdigit() and len(number) < 10:
        chosen = select(_versions).where(_versions.c.name == name, _versions.c.version == int(number))
        row = conn.execute(chosen).mappings().first()
        found = _version(row) if row else None
    else:
        raise NotFound(f"There is no data set {ref!r}: a version is a number, as in {name}@1.")
    return found or _not_found(conn, ref, name)


def _not_found(conn: Connection, ref: str, name: str) -> DatasetVersion:
    versions = conn.scalars(select(_versions.c.version).where(_versions.c.name == name).order_by("version")).all()
    if versions:
        raise NotFound(f"There is no data set {ref!r}; {name!r} has the versions {', '.join(map(str, versions))}.")
    names = {*BUILTIN, *conn.scalars(select(_datasets.c.name))}
    raise NotFound(f"There is no data set {ref!r}; there are {', '.join(sorted(names)[:50])}.")


def list_datasets(conn: Connection) -> list[dict[str, Any]]:
    """One line per name, newest version each, by name."""
    newest = (
        select(_versions.c.name, func.max(_versions.c.version).label("version")).group_by(_versions.c.name).subquery()
    )
    rows = conn.execute(
        select(_versions, _datasets.c.builtin)
        .join(newest, (newest.c.name == _versions.c.name) & (newest.c.version == _versions.c.version))
        .join(_datasets, _datasets.c.name == _versions.c.name)
        .order_by(_versions.c.name)
    )
    return [_view(_version(row), bool(row["builtin"])) for row in rows.mappings()]


def show(conn: Connection, ref: str) -> dict[str, Any]:
    """What `GET /datasets/{name}` shows: the newest (or the named) version, and the numbers of all versions."""
    version = resolve(conn, ref)
    builtin = conn.scalar(select(_datasets.c.builtin).where(_datasets.c.name == version.name))
    every = conn.execute(select(_versions).where(_versions.c.name == version.name).order_by(_versions.c.version))
    return {
        **_view(version, bool(builtin)),
        "versions": [
            {"version": v["version"], "sha256": v["sha256"], "created_at": iso(v["created_at"])}
            for v in every.mappings()
        ],
    }


def _view(version: DatasetVersion, builtin: bool) -> dict[str, Any]:
    meta = version.summary
    return {
        "name": version.name, "version": version.version, "kind": meta["kind"], "builtin": builtin,
        "sha256": version.sha256, "size_bytes": version.size_bytes, "classes": meta["classes"],
        "image": meta.get("image"), "split": meta["split"], "splits": meta["splits"],
        "created_at": iso(version.created_at),
    }  # fmt: skip


def _newest(conn: Connection, name: str) -> DatasetVersion | None:
    chosen = select(_versions).where(_versions.c.name == name).order_by(_versions.c.version.desc()).limit(1)
    row = conn.execute(chosen).mappings().first()
    return _version(row) if row else None


def _version(row: RowMapping) -> DatasetVersion:
    return DatasetVersion(**{column.name: row[column.name] for column in _versions.columns})


def dataset_folder(settings: Settings, version: DatasetVersion) -> Path:
    """Where a version's files lie: what `open_dataset` takes."""
    return dataset_dir(settings.storage_root, version.sha256)
