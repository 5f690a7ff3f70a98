"""How our processes begin and end: files of theirs are private, and settings that cannot work are a message and exit
code 1, never a traceback."""

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
    """Run `main` as this process; ends it with main's exit code."""
    try:
        settings = get_settings()
        restrict_umask(settings.umask, settings.data_dir)
        sys.exit(main())
    except (ConfigurationError, Unavailable) as error:
        print_error(f"nightshift {name}: {error}")
        sys.exit(1)


def restrict_umask(umask: str, data_dir: Path) -> None:
    """What this process and its children make from now on has none of these permissions (octal), and neither has the
    data folder, if it is there and ours. A folder like /tmp, which many users share, stays as it is."""
    taken = int(umask, 8)
    os.umask(taken)
    with suppress(OSError):
        found = data_dir.stat()
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid == os.geteuid() and not mode & stat.S_ISVTX:
            data_dir.chmod(mode & ~taken)
