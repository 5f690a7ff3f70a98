"""Secrets of a job are hidden in whatever its runner writes."""

from __future__ import annotations

from collections.abc import Iterable

#: What stands for a secret in logs.
HIDDEN = "[secret]"


def hide(text: str, values: Iterable[str]) -> str:
    """Return the text without the values."""
    for value in values:
        text = text.replace(value, HIDDEN)
    return text
