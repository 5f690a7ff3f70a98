"""A bucket of an S3-like store, and every way it can fail turned into two: it does not answer, or the thing is not there.

Through s3fs. Each piece goes with its MD5, which the store compares with what arrived, and what no longer exists is
told from a bucket that is gone: a store that was taken away must never look like one that lost its files.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any

from nightshift.errors import ConfigurationError
from shared.errors import StorageUnavailable

#: Bytes per request. Too low: many requests. Too high: a broken connection repeats as much, and memory holds
#: `_AT_ONCE` of them.
PIECE = 16_000_000
#: Pieces of one upload that S3 takes at most.
_MOST_PIECES = 10_000
#: Pieces on their way at the same time.
_AT_ONCE = 4
#: Until a store that does not answer is given up (seconds): to connect, and between two bytes; and how often it is tried.
_CONNECT_SECONDS, _READ_SECONDS, _TRIES = 3, 30, 2

#: Called between pieces; raises to break off.
Going = Callable[[], None]


def always() -> None:
    """Nothing ends the work early."""


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

    def put(self, path: Path, key: str, going: Going = always) -> str:
        """Upload a file; returns the SHA-256 of what was sent."""
        size = path.stat().st_size
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if size <= PIECE:
            data = path.read_bytes()
            self._call("put_object", Key=self._prefix + key, Body=data, ContentMD5=_md5(data))
        else:
            self._put_pieces(path, self._prefix + key, size, going)
        return sha256

    def _put_pieces(self, path: Path, key: str, size: int, going: Going) -> None:
        piece = max(PIECE, -(-size // _MOST_PIECES))
        upload = self._call("create_multipart_upload", Key=key)["UploadId"]

        def send(number: int) -> dict[str, Any]:
            going()
            with path.open("rb") as file:
                file.seek(number * piece)
                data = file.read(piece)
            sent = self._call(
                "upload_part", Key=key, UploadId=upload, PartNumber=number + 1, Body=data, ContentMD5=_md5(data)
            )
            return {"ETag": sent["ETag"], "PartNumber": number + 1}

        try:
            parts = _at_once(send, range(-(-size // piece)))
            self._call("complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:
            self._abort(key, upload)
            raise

    def _abort(self, key: str, upload: str) -> None:
        try:
            self._call("abort_multipart_upload", Key=key, UploadId=upload)
        except (StorageUnavailable, FileNotFoundError):
            return  # the bucket's own rule for unfinished uploads takes it away

    def delete(self, key: str) -> None:
        """One that is not there is no error. One at a time: not every store knows how to delete many."""
        self._call("delete_object", Key=self._prefix + key)

    # -- reading ----------------------------------------------------------------------------------

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Bytes `start` … `stop - 1`. Raises FileNotFoundError."""
        if stop <= start:
            return b""
        with self._failures():
            data: bytes = self._fs.cat_file(f"{self.name}/{self._prefix}{key}", start=start, end=stop)
        return data

    def get(self, found: Object, path: Path, going: Going = always) -> None:
        """Download a whole file and sync it. Raises FileNotFoundError."""
        with path.open("wb") as file:
            file.truncate(found.size)

            def fetch(start: int) -> None:
                going()
                data = self.read(found.key, start, min(found.size, start + PIECE))
                os.pwrite(file.fileno(), data, start)

            _at_once(fetch, range(0, found.size, PIECE))
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

    def _pages(self, folder: str, delimiter: str) -> Iterator[dict[str, Any]]:
        asked: dict[str, Any] = {"Prefix": f"{self._prefix}{folder}/"}
        if delimiter:
            asked["Delimiter"] = delimiter
        while True:
            page = self._call("list_objects_v2", **asked)
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

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
        self._call("put_object", Key=self._prefix + key, Body=data, ContentMD5=_md5(data))
        found = [item.key for item in self.files(folder)], self.read(key, 0, len(data))
        self.delete(key)
        if found != ([key], data):
            raise StorageUnavailable(f"The storage {self.url} does not give back what was put there.")

    # -- asking -----------------------------------------------------------------------------------

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        with self._failures(method):
            answer: dict[str, Any] = self._fs.call_s3(method, Bucket=self.name, **arguments)
        return answer

    @contextmanager
    def _failures(self, method: str = "") -> Iterator[None]:
        try:
            yield
        except ConfigurationError:
            raise
        except FileNotFoundError as error:
            if method == "head_bucket" or _code(error) == "NoSuchBucket":
                raise self._no_bucket() from error
            self._call("head_bucket")  # it is there, so the object is not
            raise
        except Exception as error:  # botocore, aiohttp, asyncio and s3fs each have their own tree
            if isinstance(error, PermissionError) or type(error).__name__ in _NO_KEY:
                raise self._no_entry(error) from error
            raise StorageUnavailable(f"The storage {self.url} does not answer: {_told(error)}") from error

    def _no_bucket(self) -> StorageRefused:
        advice = f"create it (aws s3 mb s3://{self.name}), or mend NIGHTSHIFT_STORAGE_URL"
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
    def _fs(self) -> Any:
        return _filesystem(self._endpoint, os.environ.get("AWS_REGION"))


@cache
def _filesystem(endpoint: str, region: str | None) -> Any:
    """One per process: it costs half a second, and keeps connections open."""
    try:
        from s3fs import S3FileSystem
    except ImportError as error:
        raise ConfigurationError(
            "NIGHTSHIFT_STORAGE_URL is s3://, which needs packages that are not here: pip install 'nightshift[s3]'"
        ) from error
    config: dict[str, Any] = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _READ_SECONDS,
        "retries": {"max_attempts": _TRIES, "mode": "standard"},
        # Our MD5 of each piece, which every store knows; the newer checksums are unknown to some.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "max_pool_connections": 4 * _AT_ONCE,
    }
    if endpoint:
        config["s3"] = {"addressing_style": "path"}
    filesystem = S3FileSystem(
        endpoint_url=endpoint or None,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs=config,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    filesystem.retries = _TRIES
    return filesystem


class StorageRefused(StorageUnavailable):
    """It answers, but not us, and trying again does not help: somebody must mend settings, credentials or bucket."""


#: Classes of botocore for credentials that are not there or not whole.
_NO_KEY = frozenset({"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "ProfileNotFound"})


def _code(error: BaseException) -> str:
    """The store's own name for an error."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _told(error: BaseException) -> str:
    """Never more than a line, and nothing of a request, which is signed."""
    text = str(error) or type(error).__name__
    return f"{code}: {text[:200]}" if (code := _code(error)) else text[:200]


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _at_once(work: Callable[[int], Any], numbers: range) -> list[Any]:
    """`work` of each number, a few at a time, in their order; the first error ends it."""
    if len(numbers) == 1:
        return [work(numbers[0])]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        futures = [pool.submit(work, number) for number in numbers]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
