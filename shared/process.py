"""How our processes begin and end: settings that cannot work are a message and exit code 1, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from shared.errors import ConfigurationError, Unavailable
from shared.speech import complain


def run(name: str, main: Callable[[], int]) -> NoReturn:
    """Run `main` as this process; ends it with main's exit code."""
    try:
        sys.exit(main())
    except (ConfigurationError, Unavailable) as error:
        complain(f"nightshift {name}: {error}")
        sys.exit(1)
