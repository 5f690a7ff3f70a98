"""Arrays by name, as checkpoints and weights have them."""

from __future__ import annotations

from collections.abc import Mapping

from nightshift.families.learner import Array


def strip_prefix(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """Return the arrays whose names start with the prefix, under the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
