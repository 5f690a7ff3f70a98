"""Functions of families and programs, which are named as text."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from shared.errors import UnsupportedJob


def function(reference: str) -> Callable[..., Any]:
    """Import `package.module:function`. Raises UnsupportedJob if there is none; errors of the import are passed on."""
    module, _, name = reference.partition(":")
    found: Any = getattr(import_module(module), name, None)
    if not callable(found):
        raise UnsupportedJob(f"{reference} is not a function")
    return cast("Callable[..., Any]", found)
