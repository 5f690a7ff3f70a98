"""Optional libraries, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from nightshift.errors import ConfigurationError


def need(module: str, package: str) -> Any:
    """Import a module. Raises ConfigurationError naming the package to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigurationError(f"this requires {package}, which is not installed: pip install {package}") from error
