"""How our processes begin and end: settings that cannot work are a message and exit code 1, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from shared.errors import ConfigurationError, Unavailable


def run(name: str, main: Callable[[], int]) -> NoReturn:
    """Run `main` as this process; ends it with main's exit code."""
    try:
        sys.exit(main())
    except (ConfigurationError, Unavailable) as error:
        print(f"nightshift {name}: {error}", file=sys.stderr)
        sys.exit(1)
