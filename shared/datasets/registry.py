"""Data sets by name: register, append, resolve. The rows are in SQL, the files in `shared.datasets.store`.

A registration writes the complete version to disk, then its rows in one transaction. A crash in between leaves a
folder without a row; registering again finds the folder and writes the row.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Engine, RowMapping, Select, Text, bindparam, cast, insert, select, update
from sqlalchemy.exc import IntegrityError

from nightshift.errors import InvalidRequest, NotFound, StorageFull
from nightshift.names import FILES, TABLE, data_of
from shared import ownership
from shared.clock import db_now
from shared.datasets import builtins, formats, gc, looks, references
from shared.datasets.builtins import BUILTIN
from shared.datasets.errors import printable
from shared.datasets.ingest.append import store_appended
from shared.datasets.ingest.build import ImageSource, Limits, store_images
from shared.datasets.ingest.build_files import FileSource, store_files
from shared.datasets.ingest.build_text import TextSource, store_text
from shared.datasets.ingest.source_files import open_files
from shared.datasets.ingest.tokens import counted
from shared.datasets.models import DatasetVersion
from shared.datasets.store import OpenDataset, Stored, open_dataset, sweep
from shared.db.engine import read, write
from shared.db.schema import dataset_versions as _versions
from shared.db.schema import datasets as _datasets
from shared.errors import NotStored
from shared.job_files.layout import dataset_dir
from shared.settings import Settings
from shared.specs.base import Name
from shared.storage import storage_of
from shared.storage.cache import CacheLease

_name: TypeAdapter[str] = TypeAdapter(Name)

#: Attempts to write a version while other registrations of the name collide (PostgreSQL; SQLite writers queue).
_TRIES = 10


def ensure_builtin(engine: Engine, settings: Settings, name: str) -> DatasetVersion:
    """Return the newest version of a built-in set; register it first if needed (a download takes minutes).

    Raises NotFound for other names, DatasetUnavailable if its files are neither in NIGHTSHIFT_DATASETS_DIR nor
    downloadable.
    """
    if name not in BUILTIN:
        raise NotFound(f"There is no built-in data set {name!r}. Built-in data sets: {', '.join(BUILTIN)}.")
    with read(engine) as conn:
        known = _newest(conn, name)
    if known and storage_of(settings).has_dataset(known.sha256):
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
    kind: str | None = None,
    filename: str | None = None,
    image_size: tuple[int, int] | None = None,
    owner_id: str | None = None,
) -> DatasetVersion:
    """Register a folder or a file as a version of `name`; return the existing version if the content is the same.

    A new name belongs to `owner_id` (None: no owner). `format` is one of `formats.FORMATS`, or None to detect it.
    `kind` is one of `names.DATA_KINDS`; None: it is found from the content, but a set that holds a table gets a table.
    `filename` is the user's name of an upload; `image_size` (height, width) overrides the stored size of image files.
    Raises Forbidden; InvalidRequest, MalformedRequest, TooLarge, StorageFull or UnsupportedMedia, naming file and line.
    After an error nothing is kept.
    """
    check_name(name)
    with read(engine) as conn:
        references.require(conn, name, owner_id)
        kind = kind or _own_kind(conn, name)
    if not path.exists():
        raise InvalidRequest.field(("file",), f"{printable(str(path))} does not exist")
    sweep(_root(settings))
    with open_files(path, filename, all_files=kind == FILES) as files:
        found = formats.read(files, format, kind=kind, image_size=image_size)
        if name in builtins.CLASSES:
            found = builtins.named(found, name)
        return enter(engine, name, _store(settings, found), builtin=name in BUILTIN, owner_id=owner_id)


def append(
    engine: Engine,
    settings: Settings,
    name: str,
    path: Path,
    format: str | None = None,
    *,
    filename: str | None = None,
    owner_id: str | None = None,
) -> DatasetVersion:
    """Register a new version: the rows of the newest one, then those of `path` (see `ingest.append`).

    Running jobs keep the version they read. If another version is registered meanwhile, this one is built again on top
    of it, so no row is lost. Raises NotFound, Conflict for a built-in set, and the errors of `register`.
    """
    check_name(name)
    sweep(_root(settings))
    for _ in range(_TRIES):
        with read(engine) as conn:
            base = resolve(conn, name)
            references.require(conn, name, owner_id)
            references.refuse_builtin(conn, name, owner_id)
        _refuse_whole(base)
        with hold_dataset(settings, base) as folder, open_files(path, filename) as files:
            stored = open_dataset(folder)
            size = stored.image[:2] if stored.kind == "image" else None
            found = formats.read(files, format, image_size=size)
            if name in builtins.CLASSES:
                found = builtins.named(found, name)
            more = _store(settings, found, stored)
        with suppress(_BaseOutdated):
            return enter(engine, name, more, after=base.version, owner_id=owner_id)
    raise _too_many(name)


def _own_kind(conn: Connection, name: str) -> str | None:
    """Return `table` for an existing set of that kind, else None. Raises InvalidRequest for one of files.

    Those need the kind with each version: without it, clients leave hidden files out.
    """
    kind = conn.scalar(select(_datasets.c.kind).where(_datasets.c.name == name))
    if kind == FILES:
        raise InvalidRequest.field(
            ("kind",), f"must be given: {name!r} holds {data_of(FILES)}, so name the kind {FILES}"
        )
    return TABLE if kind == TABLE else None


def _refuse_whole(base: DatasetVersion) -> None:
    """Raise InvalidRequest for a kind whose versions do not grow by rows."""
    kind = base.summary["kind"]
    if kind in (FILES, TABLE):
        raise InvalidRequest.field(
            ("name",),
            f"{base.name!r} holds {data_of(kind)}, which cannot be appended to; add the whole as a new version",
        )


def check_name(name: str) -> None:
    """Raise InvalidRequest for a name that uploads may not have."""
    try:
        _name.validate_python(name)
    except ValidationError as error:
        raise InvalidRequest.field(("name",), error.errors()[0]["msg"]) from None
    if name == "digits":
        raise InvalidRequest.field(("name",), "'digits' is built in and cannot be changed; choose another name")


def _store(settings: Settings, source: formats.Source, base: OpenDataset | None = None) -> Stored:
    """Store a version with the rows of `source`, after those of `base`."""
    root, limits = _root(settings), Limits(settings.max_dataset_bytes)
    with _disk_full_as_error():
        stored = built(root, source, limits) if base is None else store_appended(root, base, source, limits)
        return storage_of(settings).keep_dataset(looks.looked_at(counted(stored)))


def built(root: Path, source: formats.Source, limits: Limits) -> Stored:
    """Write a version of any kind below a folder."""
    if isinstance(source, ImageSource):
        return store_images(root, source, limits)
    if isinstance(source, TextSource):
        return store_text(root, source, limits)
    if isinstance(source, FileSource):
        return store_files(root, source, limits)
    from shared.datasets.ingest.build_table import store_table  # imports pyarrow, which only tables need

    return store_table(root, source, limits)


@contextmanager
def _disk_full_as_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The server's disk is full; nothing was registered.") from error
        raise


def _root(settings: Settings) -> Path:
    return settings.storage_root / "datasets"


def enter(
    engine: Engine,
    name: str,
    stored: Stored,
    *,
    builtin: bool = False,
    after: int | None = None,
    owner_id: str | None = None,
) -> DatasetVersion:
    """Write the rows of a stored version; return the existing version if the content is the same.

    `after`: the version that must be the newest. `owner_id` makes the request (None: Nightshift itself) and owns a new
    name. Raises Forbidden; Conflict for other content of a built-in set.
    """
    for _ in range(_TRIES):
        try:
            with write(engine) as conn:
                return _enter(conn, name, stored, builtin, after, owner_id)
        except IntegrityError:
            continue  # another process wrote a version of this name
    raise _too_many(name)


class _BaseOutdated(Exception):
    """The version that was appended to is no longer the newest."""


def _too_many(name: str) -> InvalidRequest:
    return InvalidRequest.field(("name",), f"too many registrations of {name!r} at the same time; try again")


def _enter(
    conn: Connection, name: str, stored: Stored, builtin: bool, after: int | None, owner_id: str | None
) -> DatasetVersion:
    gc.keep(conn, stored)
    dataset = conn.execute(select(_datasets).where(_datasets.c.name == name).with_for_update()).first()
    if dataset is None:
        row = {"name": name, "kind": stored.meta["kind"], "builtin": builtin, "created_at": db_now()}
        conn.execute(insert(_datasets).values(**row, owner_id=None if builtin else owner_id))
    elif dataset.kind != stored.meta["kind"]:
        raise InvalidRequest.field(
            ("name",),
            f"{name!r} holds {data_of(dataset.kind)}, but this is {data_of(stored.meta['kind'])}; choose another name",
        )
    ownership.require(references.NOUN, name, dataset.owner_id if dataset else None, owner_id)
    newest = _newest(conn, name)
    if after is not None and (newest is None or newest.version != after):
        raise _BaseOutdated
    same = _first(conn, _SAME, name=name, sha256=stored.sha256)
    if same:
        return same
    if dataset is not None:
        references.refuse_builtin(conn, name, owner_id)
    number = max(newest.version if newest else 0, dataset.last_version if dataset else 0) + 1
    values = {
        "name": name, "version": number, "sha256": stored.sha256, "size_bytes": stored.meta["size_bytes"],
        "summary": stored.meta, "created_at": db_now(),
    }  # fmt: skip
    conn.execute(update(_datasets).where(_datasets.c.name == name).values(last_version=number))
    return version_of(conn.execute(insert(_versions).values(values).returning(_versions)).mappings().one())


def resolve(conn: Connection, ref: str) -> DatasetVersion:
    """Return version 3 for `name@3`, the newest for `name`. Raises NotFound, listing the existing ones."""
    name, at, number = ref.partition("@")
    if not at:
        found = _newest(conn, name)
    elif number.isascii() and number.isdigit() and len(number) < 10:
        found = _first(conn, _ONE, name=name, number=int(number))
    else:
        raise NotFound(f"There is no data set {ref!r}: a version is a number, for example {name}@1.")
    return found or _not_found(conn, ref, name)


def _not_found(conn: Connection, ref: str, name: str) -> DatasetVersion:
    versions = conn.scalars(select(_versions.c.version).where(_versions.c.name == name).order_by("version")).all()
    if versions:
        raise NotFound(f"There is no data set {ref!r}. Versions of {name!r}: {', '.join(map(str, versions))}.")
    names = {*BUILTIN, *conn.scalars(select(_datasets.c.name))}
    raise NotFound(f"There is no data set {ref!r}. Data sets: {', '.join(sorted(names)[:50])}.")


#: The columns of a version, its summary as text.
_AS_TEXT = [cast(column, Text).label("summary") if column.name == "summary" else column for column in _versions.columns]
_OF_NAME = select(*_AS_TEXT).where(_versions.c.name == bindparam("name"))
#: Built once, because every submission executes one of them.
_ONE = _OF_NAME.where(_versions.c.version == bindparam("number"))
_NEWEST = _OF_NAME.order_by(_versions.c.version.desc()).limit(1)
_SAME = _OF_NAME.where(_versions.c.sha256 == bindparam("sha256"))


def _newest(conn: Connection, name: str) -> DatasetVersion | None:
    return _first(conn, _NEWEST, name=name)


def _first(conn: Connection, statement: Select[Any], **parameters: Any) -> DatasetVersion | None:
    row = conn.execute(statement, parameters).first()
    return _version(*row) if row else None


@lru_cache(maxsize=256)
def _version(*values: Any) -> DatasetVersion:
    """Build a DatasetVersion from the columns `_AS_TEXT`. Versions are immutable, and most jobs read the same few."""
    row = dict(zip(_versions.columns.keys(), values, strict=True))
    return version_of({**row, "summary": json.loads(row["summary"])})


def version_of(row: Mapping[str, Any] | RowMapping) -> DatasetVersion:
    """Build a DatasetVersion from a row of the table."""
    return DatasetVersion(**{column.name: row[column.name] for column in _versions.columns})


def dataset_folder(settings: Settings, version: DatasetVersion) -> Path:
    """Return the local folder of a version, for `open_dataset`; see `hold_dataset` for fetching its files."""
    return dataset_dir(settings.storage_root, version.sha256)


def hold_dataset(settings: Settings, version: DatasetVersion) -> CacheLease:
    """Fetch a version's folder from the storage if needed and lease it: it stays local while the lease is held.

    Raises NotFound, StorageUnavailable.
    """
    try:
        return storage_of(settings).hold_dataset(version.sha256)
    except NotStored as error:
        raise NotFound(f"The files of {version.name}@{version.version} are missing: {error}.") from error
