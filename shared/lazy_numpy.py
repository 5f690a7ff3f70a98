"""numpy, imported when it is first used: processes that only keep records do without its eleven megabytes.

Annotations name `numpy.typing` under TYPE_CHECKING, and module constants hold no value of numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["np"]


class _Numpy:
    """Has the attributes of numpy."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module("numpy"), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import numpy as np
else:
    np = _Numpy()
