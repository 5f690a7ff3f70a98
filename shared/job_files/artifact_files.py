"""Which file an artifact's row names, and what a browser may show of it by itself."""

from __future__ import annotations

from pathlib import Path

from nightshift.errors import NotFound

#: Shown by a browser as they are; everything else is offered for saving.
INLINE = frozenset({"image/png", "image/jpeg", "application/json", "text/plain"})


def stored_file(root: Path, stored_as: str) -> Path:
    """`stored_as` is the row's, never a caller's. Raises NotFound."""
    root = root.resolve()
    file = (root / stored_as).resolve()
    if not (file.is_relative_to(root) and file.is_file()):
        raise NotFound("The file of this artifact is no longer in the storage.")
    return file
