"""A bucket of an S3-like store, and every way it can fail turned into two: it does not answer, or the thing is not there.

Through boto3, whose retries are the only ones, and s3transfer, which cuts large files into pieces. Each piece goes with its
MD5, which the store compares with what arrived, and what no longer exists is told from a bucket that is gone: a store that
was taken away must never look like one that lost its files.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any

from nightshift.errors import ConfigurationError
from shared.errors import StorageUnavailable

#: Bytes per request. Too low: many requests. Too high: a broken connection repeats as much.
PIECE = 16_000_000
#: Pieces on their way at the same time.
_AT_ONCE = 4
#: Until a store that does not answer is given up (seconds): to connect, and between two bytes; and how often it is tried.
_CONNECT_SECONDS, _READ_SECONDS, _TRIES = 3, 30, 3

#: Called between pieces; raises to cancel the transfer.
CancelCheck = Callable[[], None]


def never_cancelled() -> None:
    """Never cancel."""


@dataclass(frozen=True)
class Object:
    """`key` is relative to the prefix of the bucket."""

    key: str
    size: int
    modified: float  # seconds since the epoch, by the store's clock


class Bucket:
    def __init__(self, url: str, endpoint_url: str = "") -> None:
        """`url`: s3://bucket/prefix. Nothing is connected to yet."""
        self.url, self._endpoint = url.rstrip("/"), endpoint_url
        self.name, _, prefix = self.url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    # -- writing ----------------------------------------------------------------------------------

    def put(self, path: Path, key: str, cancel_check: CancelCheck = never_cancelled) -> str:
        """Upload a file; returns the SHA-256 of what was sent. Raises StorageUnavailable."""
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        watcher = _Watcher(cancel_check)
        with self._failures():
            watcher.wait(self._transfers.upload(str(path), self.name, self._prefix + key, subscribers=[watcher]))
        watcher.raise_error()
        return sha256

    def delete(self, key: str) -> None:
        """One that is not there is no error. One at a time: not every store knows how to delete many."""
        self._call("delete_object", Key=self._prefix + key)

    # -- reading ----------------------------------------------------------------------------------

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Bytes `start` … `stop - 1`. Raises FileNotFoundError."""
        if stop <= start:
            return b""
        asked = {"Bucket": self.name, "Key": self._prefix + key, "Range": f"bytes={start}-{stop - 1}"}
        with self._failures():
            data: bytes = self._client.get_object(**asked)["Body"].read()
        return data

    def get(self, found: Object, path: Path, cancel_check: CancelCheck = never_cancelled) -> None:
        """Download a whole file and sync it. Raises FileNotFoundError, StorageUnavailable."""
        watcher = _Watcher(cancel_check)
        with self._failures():
            key = self._prefix + found.key
            watcher.wait(self._transfers.download(self.name, key, str(path), subscribers=[watcher]))
        watcher.raise_error()
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def look(self, key: str) -> Object:
        """Raises FileNotFoundError."""
        found = self._call("head_object", Key=self._prefix + key)
        return Object(key, int(found["ContentLength"]), found["LastModified"].timestamp())

    def files(self, folder: str, *, below: bool = False) -> list[Object]:
        """What lies in a folder, and `below` that too; empty where there is none."""
        found: list[Object] = []
        for page in self._pages(folder, delimiter="" if below else "/"):
            for item in page.get("Contents", []):
                key = str(item["Key"]).removeprefix(self._prefix)
                found.append(Object(key, int(item["Size"]), item["LastModified"].timestamp()))
        return [item for item in found if not item.key.endswith("/")]  # consoles leave those for folders

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""
        pages = self._pages(folder, delimiter="/")
        prefixes = [str(item["Prefix"]) for page in pages for item in page.get("CommonPrefixes", [])]
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in prefixes]

    def _pages(self, folder: str, delimiter: str) -> list[dict[str, Any]]:
        asked = {"Bucket": self.name, "Prefix": f"{self._prefix}{folder}/", "Delimiter": delimiter}
        with self._failures():
            return list(self._client.get_paginator("list_objects_v2").paginate(**asked))

    def now(self) -> float:
        """The store's clock (seconds since the epoch), which `Object.modified` goes by."""
        headers = self._call("head_bucket")["ResponseMetadata"]["HTTPHeaders"]
        return parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()

    # -- is it fit --------------------------------------------------------------------------------

    def prove(self, *, thoroughly: bool = False) -> None:
        """The bucket is there and lets us in, `thoroughly`: to do all we need. Raises ConfigurationError with the way out,
        StorageUnavailable when it does not answer."""
        try:
            self._call("head_bucket")
            if thoroughly:
                self._try_everything(f"check-{uuid.uuid4().hex}")
        except StorageRefused as refused:
            raise ConfigurationError(f"NIGHTSHIFT_STORAGE_URL: {refused}") from refused

    def _try_everything(self, folder: str) -> None:
        key, data = f"{folder}/file", b"nightshift check"
        self._call("put_object", Key=self._prefix + key, Body=data)
        found = [item.key for item in self.files(folder)], self.read(key, 0, len(data))
        self.delete(key)
        if found != ([key], data):
            raise StorageUnavailable(f"The storage {self.url} does not give back what was put there.")

    # -- asking -----------------------------------------------------------------------------------

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        with self._failures(method):
            answer: dict[str, Any] = getattr(self._client, method)(Bucket=self.name, **arguments)
        return answer

    @contextmanager
    def _failures(self, method: str = "") -> Iterator[None]:
        try:
            yield
        except ConfigurationError:
            raise
        except Exception as error:  # botocore's, s3transfer's and urllib3's have no class in common
            status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404 and (method == "head_bucket" or _code(error) == "NoSuchBucket"):
                raise self._no_bucket() from error
            if status == 404:
                self._call("head_bucket")  # it is there, so the object is not
                raise FileNotFoundError(_told(error)) from error
            if status in (401, 403) or type(error).__name__ in _NO_KEY:
                raise self._no_entry(error) from error
            raise StorageUnavailable(f"The storage {self.url} does not answer: {_told(error)}") from error

    def _no_bucket(self) -> StorageRefused:
        advice = f"create it (aws s3 mb s3://{self.name}), or correct NIGHTSHIFT_STORAGE_URL"
        return StorageRefused(f"there is no bucket {self.name!r} at {self._where}: {advice}")

    def _no_entry(self, error: Exception) -> StorageRefused:
        advice = (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a role) that may read, write, list and delete in "
            f"s3://{self.name}"
        )
        return StorageRefused(f"{self._where} does not let us into the bucket {self.name!r} ({_told(error)}): {advice}")

    @property
    def _where(self) -> str:
        return self._endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"

    @property
    def _client(self) -> Any:
        return _connected(self._endpoint, os.environ.get("AWS_REGION"))[0]

    @property
    def _transfers(self) -> Any:
        return _connected(self._endpoint, os.environ.get("AWS_REGION"))[1]


@cache
def _connected(endpoint: str, region: str | None) -> tuple[Any, Any]:
    """Return boto3's client and its transfer manager: one of each per process, for they keep connections and threads."""
    try:
        import boto3
        from botocore.config import Config
        from s3transfer.manager import TransferConfig, TransferManager
    except ImportError as error:
        raise ConfigurationError(
            "NIGHTSHIFT_STORAGE_URL is s3://, which needs packages that are not here: pip install 'nightshift[s3]'"
        ) from error
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"total_max_attempts": _TRIES, "mode": "standard"},
        # Our MD5 of each piece, which every store knows; the newer checksums are unknown to some.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=4 * _AT_ONCE,
        s3={"addressing_style": "path"} if endpoint else None,
    )
    client = boto3.Session(region_name=region).client("s3", endpoint_url=endpoint or None, config=config)
    for method in ("PutObject", "UploadPart"):
        client.meta.events.register(f"before-call.s3.{method}", _add_md5)
    transfers = TransferConfig(
        multipart_threshold=PIECE,
        multipart_chunksize=PIECE,
        max_request_concurrency=_AT_ONCE,
        num_download_attempts=_TRIES,
    )
    return client, TransferManager(client, transfers)


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Called by botocore before it sends bytes, or a part of a file."""
    body, digest = params["body"], hashlib.md5(usedforsecurity=False)
    if isinstance(body, bytes):
        digest.update(body)
    else:
        start = body.tell()
        while data := body.read(1 << 20):
            digest.update(data)
        body.seek(start)
    params["headers"]["Content-MD5"] = base64.b64encode(digest.digest()).decode()


class _Watcher:
    """Calls `cancel_check` during a transfer, and cancels the transfer if that raises."""

    def __init__(self, cancel_check: CancelCheck) -> None:
        self._cancel_check = cancel_check
        self._error: BaseException | None = None

    def on_queued(self, future: Any, **_: Any) -> None:
        self.on_progress(future)

    def on_progress(self, future: Any, **_: Any) -> None:
        """Called in a thread of s3transfer, which would take what is raised here for a broken connection."""
        try:
            self._cancel_check()
        except BaseException as error:
            self._error = self._error or error
            future.cancel()

    def wait(self, future: Any) -> None:
        with suppress(CancelledError):
            future.result()

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error


class StorageRefused(StorageUnavailable):
    """It answers, but not us, and trying again does not help: somebody must mend settings, credentials or bucket."""


#: Classes of botocore for credentials that are not there or not whole.
_NO_KEY = frozenset({"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "ProfileNotFound"})


def _code(error: BaseException) -> str:
    """The store's own name for an error."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _told(error: BaseException) -> str:
    """Never more than a line, and nothing of a request, which is signed."""
    return (str(error) or type(error).__name__)[:200]
