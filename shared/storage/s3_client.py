"""A bucket of an S3-compatible store. Failures become StorageUnavailable or FileNotFoundError.

Uses boto3, whose retries are the only ones, and s3transfer, which splits large files into parts. Each part is sent with
its MD5, which the store compares with the received bytes. A missing object is distinguished from a missing bucket: a
store that is unreachable or deleted must not look like one that lost its files.
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

#: Bytes per request. Too low: many requests. Too high: more to repeat after a broken connection.
PIECE = 16_000_000
#: Parts transferred at the same time.
_AT_ONCE = 4
#: Time-outs to connect and between two bytes (seconds), and the number of tries. Too low: a slow store fails. Too high:
#: a worker that is stopped waits for a lost answer until its last resort.
_CONNECT_SECONDS, _READ_SECONDS, _TRIES = 3, 12, 3
#: How long a request may wait in all: boto3 pauses for at most 1 and 2 seconds before it tries again.
LONGEST_SECONDS = _TRIES * (_CONNECT_SECONDS + _READ_SECONDS) + 3

#: Called between parts; raises to cancel the transfer when it is no longer wanted.
CancelCheck = Callable[[], None]


def never_cancelled() -> None:
    """Never cancel the transfer."""


@dataclass(frozen=True)
class Object:
    """An object of the bucket. `key` is relative to the bucket's prefix."""

    key: str
    size: int
    modified: float  # seconds since the epoch, by the store's clock


class Bucket:
    """A bucket, or a prefix in it."""

    def __init__(self, url: str, endpoint_url: str = "") -> None:
        """Take the `url` s3://bucket/prefix, without connecting yet."""
        self.url, self._endpoint = url.rstrip("/"), endpoint_url
        self.name, _, prefix = self.url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    # -- writing ----------------------------------------------------------------------------------

    def put(self, path: Path, key: str, cancel_check: CancelCheck = never_cancelled) -> str:
        """Upload a file; return its SHA-256. Raises StorageUnavailable."""
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        watcher = _Watcher(cancel_check)
        with self._failures():
            watcher.wait(self._transfers.upload(str(path), self.name, self._prefix + key, subscribers=[watcher]))
        watcher.raise_error()
        return sha256

    def delete(self, key: str) -> None:
        """Delete an object, if it exists. One per request: not every store supports deleting many."""
        self._call("delete_object", Key=self._prefix + key)

    # -- reading ----------------------------------------------------------------------------------

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes `start` … `stop - 1`. Raises FileNotFoundError, StorageUnavailable."""
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

    def head(self, key: str) -> Object:
        """Return an object's size and time. Raises FileNotFoundError, StorageUnavailable."""
        found = self._call("head_object", Key=self._prefix + key)
        return Object(key, int(found["ContentLength"]), found["LastModified"].timestamp())

    def files(self, folder: str, *, below: bool = False) -> list[Object]:
        """Return the objects in a folder, with `below` also those in its subfolders; empty if it does not exist."""
        found: list[Object] = []
        for page in self._pages(folder, delimiter="" if below else "/"):
            for item in page.get("Contents", []):
                key = str(item["Key"]).removeprefix(self._prefix)
                found.append(Object(key, int(item["Size"]), item["LastModified"].timestamp()))
        return [item for item in found if not item.key.endswith("/")]  # consoles create those as folders

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder."""
        pages = self._pages(folder, delimiter="/")
        prefixes = [str(item["Prefix"]) for page in pages for item in page.get("CommonPrefixes", [])]
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in prefixes]

    def _pages(self, folder: str, delimiter: str) -> list[dict[str, Any]]:
        asked = {"Bucket": self.name, "Prefix": f"{self._prefix}{folder}/", "Delimiter": delimiter}
        with self._failures():
            return list(self._client.get_paginator("list_objects_v2").paginate(**asked))

    def now(self) -> float:
        """Return the time of the store's clock, like `Object.modified` (seconds since the epoch)."""
        headers = self._call("head_bucket")["ResponseMetadata"]["HTTPHeaders"]
        return parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()

    # -- checking ---------------------------------------------------------------------------------

    def check_access(self, *, thoroughly: bool = False) -> None:
        """Check that the bucket exists and is accessible; `thoroughly`: also write, read, list and delete an object.

        Raises ConfigurationError with the remedy, StorageUnavailable when the store does not answer.
        """
        try:
            self._call("head_bucket")
            if thoroughly:
                self._check_operations(f"check-{uuid.uuid4().hex}")
        except StorageRefused as refused:
            raise ConfigurationError(f"NIGHTSHIFT_STORAGE_URL: {refused}") from refused

    def _check_operations(self, folder: str) -> None:
        key, data = f"{folder}/file", b"nightshift check"
        self._call("put_object", Key=self._prefix + key, Body=data)
        found = [item.key for item in self.files(folder)], self.read(key, 0, len(data))
        self.delete(key)
        if found != ([key], data):
            raise StorageUnavailable(f"The storage {self.url} does not return what was written to it.")

    # -- requests ---------------------------------------------------------------------------------

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
        except Exception as error:  # the errors of botocore, s3transfer and urllib3 have no common base
            status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404 and (method == "head_bucket" or _code(error) == "NoSuchBucket"):
                raise self._no_bucket() from error
            if status == 404:
                self._call("head_bucket")  # if the bucket exists, it is the object that is missing
                raise FileNotFoundError(_message(error)) from error
            if status in (401, 403) or type(error).__name__ in _NO_KEY:
                raise self._no_access(error) from error
            raise StorageUnavailable(f"The storage {self.url} does not answer: {_message(error)}") from error

    def _no_bucket(self) -> StorageRefused:
        advice = f"create it (aws s3 mb s3://{self.name}), or correct NIGHTSHIFT_STORAGE_URL"
        return StorageRefused(f"there is no bucket {self.name!r} at {self._where}: {advice}")

    def _no_access(self, error: Exception) -> StorageRefused:
        advice = (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a role) that may read, write, list and delete in "
            f"s3://{self.name}"
        )
        return StorageRefused(f"{self._where} denies access to the bucket {self.name!r} ({_message(error)}): {advice}")

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
    """Return boto3's client and transfer manager, one per process: they keep connections and threads."""
    try:
        import boto3
        from botocore.config import Config
        from s3transfer.manager import TransferConfig, TransferManager
    except ImportError as error:
        raise ConfigurationError(
            "NIGHTSHIFT_STORAGE_URL is s3://, which needs packages that are not installed: pip install 'nightshift[s3]'"
        ) from error
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"total_max_attempts": _TRIES, "mode": "standard"},
        # We send the MD5 of each part, which every store checks; some do not support the newer checksums.
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
    """Add the Content-MD5 header; botocore calls this before it sends bytes or a part of a file."""
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
    """Calls `cancel_check` during a transfer, and cancels the transfer when that raises."""

    def __init__(self, cancel_check: CancelCheck) -> None:
        self._check_wanted = cancel_check
        self._error: BaseException | None = None

    def on_queued(self, future: Any, **_: Any) -> None:
        self.on_progress(future)

    def on_progress(self, future: Any, **_: Any) -> None:
        """Keep the error and cancel: s3transfer, whose thread calls this, would retry an error raised here."""
        try:
            self._check_wanted()
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
    """The store denies access; retrying does not help until settings, credentials or the bucket are corrected."""


#: Error classes of botocore for missing or incomplete credentials.
_NO_KEY = frozenset({"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "ProfileNotFound"})


def _code(error: BaseException) -> str:
    """Return the store's own name for an error."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _message(error: BaseException) -> str:
    """Return a short message, without parts of the request, which is signed."""
    return (str(error) or type(error).__name__)[:200]
