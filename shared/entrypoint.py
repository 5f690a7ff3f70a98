"""Entry point of all processes: private files, and errors of configuration as a message with exit code 1."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from nightshift.errors import ConfigurationError, Unavailable
from shared.console import print_error
from shared.settings import get_settings


def run(name: str, main: Callable[[], int]) -> NoReturn:
    """Run `main` and exit with its exit code."""
    try:
        settings = get_settings()
        restrict_umask(settings.umask, settings.data_dir)
        sys.exit(main())
    except (ConfigurationError, Unavailable) as error:
        print_error(f"nightshift {name}: {error}")
        sys.exit(1)


def restrict_umask(umask: str, data_dir: Path) -> None:
    """Set the umask (octal) of this process and its children, and apply it to the data folder.

    A folder of another user, or a shared one such as /tmp (sticky bit), is not changed.
    """
    removed = int(umask, 8)
    os.umask(removed)
    with suppress(OSError):
        found = data_dir.stat()
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid == os.geteuid() and not mode & stat.S_ISVTX:
            data_dir.chmod(mode & ~removed)
