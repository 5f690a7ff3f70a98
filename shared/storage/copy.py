"""`nightshift copy-storage --from FOLDER`: copy a storage folder to the bucket of NIGHTSHIFT_STORAGE_URL.

The bucket has the layout of the folder. Files that are in the bucket with the same size are skipped, so an interrupted
copy can be continued. At the end everything that SQL lists is checked to be in the bucket.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Engine, select

from nightshift.errors import ConfigurationError
from shared import entrypoint
from shared.console import print_error, print_line
from shared.datasets.store import META, is_content
from shared.db.engine import make_engine, read
from shared.db.schema import artifacts, checkpoints
from shared.db.schema import dataset_versions as _versions
from shared.settings import Settings, get_settings
from shared.storage import storage_of
from shared.storage.s3 import S3Storage
from shared.storage.s3_client import Bucket

#: Folders of a storage that are copied; others hold only temporary files (uploads being received).
_COPIED = ("datasets", "jobs")
#: Files uploaded at a time.
_AT_ONCE = 4
#: Largest number of missing items to name.
_NAMED = 10


def copy(folder: Path, bucket: Bucket) -> tuple[int, int]:
    """Copy the folder; return the number of files copied, and of those already in the bucket."""
    stored = _sizes(bucket)
    found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    missing = [key for key, path in found.items() if stored.get(key) != path.stat().st_size]
    # A data set counts as stored once its meta.json is: those are copied last.
    for batch in ([key for key in missing if not _is_meta(key)], [key for key in missing if _is_meta(key)]):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda key: bucket.put(found[key], key), batch))
    return len(missing), len(found) - len(missing)


def _files(folder: Path) -> Iterator[Path]:
    """Yield complete files, without those that each host derives from a data set (token streams, resized images)."""
    for path in (file for name in _COPIED for file in sorted((folder / name).rglob("*"))):
        parts = path.relative_to(folder).parts
        is_dataset = parts[0] == "datasets"
        derived = is_dataset and not (len(parts) > 2 and is_content("/".join(parts[2:])))
        own = parts[:3] if is_dataset else parts  # deeper names are a user's, who may have hidden files
        if path.is_file() and not derived and not any(part.startswith(".") for part in own):
            yield path


def _is_meta(key: str) -> bool:
    return key.startswith("datasets/") and key.count("/") == 2 and key.endswith(f"/{META}")


def _sizes(bucket: Bucket) -> dict[str, int]:
    return {item.key: item.size for name in _COPIED for item in bucket.files(name, below=True)}


def absent(engine: Engine, bucket: Bucket) -> list[str]:
    """Return what SQL lists and the bucket does not have, or has with another size."""
    stored = _sizes(bucket)
    folders = Counter[str]()
    for key, size in stored.items():
        folders[key.rpartition("/")[0]] += size
    with read(engine) as conn:
        wanted = {f"datasets/{sha256}/{META}" for sha256 in conn.scalars(select(_versions.c.sha256))}
        lost = sorted(wanted - stored.keys())
        for row in conn.execute(select(artifacts.c.stored_as, artifacts.c.size_bytes)):
            if stored.get(row.stored_as) != row.size_bytes:
                lost.append(row.stored_as)
        ready = select(checkpoints.c.job_id, checkpoints.c.path, checkpoints.c.size_bytes)
        for listed in conn.execute(ready.where(checkpoints.c.state == "ready")):
            if folders[folder := f"jobs/{listed.job_id}/{listed.path}"] != listed.size_bytes:
                lost.append(folder)
    return lost


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog="nightshift copy-storage",
        description="Copy a storage folder to the bucket that NIGHTSHIFT_STORAGE_URL names. Stop the workers first.",
    )
    made.add_argument("--from", dest="source", metavar="FOLDER", type=Path, required=True, help="e.g. DATA/storage")
    return made


def main() -> int:
    """Run the command; return its exit code."""
    given = parser().parse_args()
    return run(given.source, get_settings())


def run(folder: Path, settings: Settings) -> int:
    """Copy and check; return 0 if the bucket has all that SQL lists. Raises ConfigurationError, StorageUnavailable."""
    storage = storage_of(settings)
    if not isinstance(storage, S3Storage):
        raise ConfigurationError("NIGHTSHIFT_STORAGE_URL names no bucket (s3://…); between folders use cp -a or rsync")
    if not any((folder / name).is_dir() for name in _COPIED):
        raise ConfigurationError(f"{folder} is no storage folder: it has neither {' nor '.join(_COPIED)}")
    storage.check_access(thoroughly=True)
    sent, skipped = copy(folder, storage.bucket)
    print_line(f"{sent} files copied, {skipped} were stored already")
    lost = absent(make_engine(settings.sql_url), storage.bucket)
    if not lost:
        print_line("everything that the database lists is in the bucket")
        return 0
    print_error(f"{len(lost)} things that the database lists are not in the bucket: {', '.join(lost[:_NAMED])}")
    return 1


if __name__ == "__main__":
    entrypoint.run("copy-storage", main)
