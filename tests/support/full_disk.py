"""A disk without room for uploads."""

from __future__ import annotations

import os

import pytest

from api.services.uploads import IncomingFile


def fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every write of an upload fail with "No space left on device"."""
    opened = IncomingFile.open

    def full(file: IncomingFile) -> None:
        opened(file)
        file._file = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0)

    monkeypatch.setattr(IncomingFile, "open", full)
