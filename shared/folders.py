"""Removal of folders, also of those that hold read-only ones."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; read-only folders are opened first. Errors are ignored."""
    _open(str(folder))
    for root, names, _ in os.walk(folder):
        for name in names:
            _open(os.path.join(root, name))
    shutil.rmtree(folder, ignore_errors=True)


def _open(folder: str) -> None:
    with suppress(OSError):
        mode = os.lstat(folder).st_mode
        if stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU:  # not through a link, to another's folder
            os.chmod(folder, stat.S_IRWXU)
