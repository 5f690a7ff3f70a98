"""The data folder of an embedded stack: its lock, and the file with the addresses of its parts."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightshift.errors import ConfigurationError


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Lock `data_dir` while the stack runs; the kernel releases the lock when the launcher dies.

    Raises ConfigurationError when another launcher holds the lock.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = (data_dir / "up.lock").open("a+")
    except OSError as error:
        raise ConfigurationError(f"cannot use {data_dir} as the data folder: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise ConfigurationError(
                f"{data_dir} is in use by another `nightshift up` (process {file.read().strip() or 'unknown'}): "
                "stop that one first, or choose another folder with --data-dir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def write_endpoints(data_dir: Path, *, api: str, flower: str) -> None:
    """Write `endpoints.json`, where the CLI finds a running stack by its data folder."""
    endpoints = {"api": api, "flower": flower, "data": str(data_dir), "pid": os.getpid()}
    temporary = data_dir / "endpoints.json.tmp"
    temporary.write_text(json.dumps(endpoints) + "\n")
    temporary.replace(data_dir / "endpoints.json")


def forget_endpoints(data_dir: Path) -> None:
    """Remove `endpoints.json`: the stack is stopping."""
    (data_dir / "endpoints.json").unlink(missing_ok=True)
