"""An S3 endpoint for tests: moto's server in this process, which a test may stop, restart and inspect."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from shared.settings import Settings

#: Environment that a process needs for access.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret-0123456789",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class ObjectStore:
    """A server that keeps its address and objects over restarts. Each test gets its own buckets."""

    def __init__(self) -> None:
        # Bound but not listening, so that no other process gets the port while the server is stopped.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port = int(self._reserved.getsockname()[1])
        self.start()
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}),
        )

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request otherwise
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def close(self) -> None:
        self.stop()
        self._reserved.close()

    def bucket(self) -> ABucket:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return ABucket(self, name)


class ABucket:
    """A new bucket, used below a prefix."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self.store, self.name, self._client = store, name, store.client

    @property
    def url(self) -> str:
        return f"s3://{self.name}/night/shift"

    def values(self) -> dict[str, Any]:
        """Return the settings of a storage in this bucket."""
        return {"storage_url": self.url, "storage_endpoint_url": self.store.endpoint}

    def settings(self, data_dir: Path, **more: Any) -> Settings:
        return Settings(data_dir=data_dir, **self.values(), **more)

    def keys(self, below: str = "") -> list[str]:
        """Return the keys without the prefix."""
        found = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"night/shift/{below}")
        return [str(item["Key"]).removeprefix("night/shift/") for page in found for item in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return bytes(self._client.get_object(Bucket=self.name, Key=f"night/shift/{key}")["Body"].read())

    def write(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=f"night/shift/{key}", Body=data)

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=f"night/shift/{key}")

    def flip(self, key: str) -> None:
        """Flip a bit of an object."""
        data = bytearray(self.read(key))
        data[len(data) // 2] ^= 1
        self.write(key, bytes(data))


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    store = ObjectStore()
    try:
        yield store
    finally:
        store.close()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
