"""Files of artifacts, and the media types that a browser may display."""

from __future__ import annotations

from pathlib import Path

from nightshift.errors import NotFound

#: The file beside a model's weights that other runtimes read.
ONNX = "model.onnx"
#: Displayed by a browser; all others are offered as a download.
INLINE = frozenset({"image/png", "image/jpeg", "application/json", "text/plain"})


def stored_file(root: Path, stored_as: str) -> Path:
    """Return the file of an artifact; `stored_as` comes from its row, never from a request. Raises NotFound."""
    root = root.resolve()
    file = (root / stored_as).resolve()
    if not (file.is_relative_to(root) and file.is_file()):
        raise NotFound("The file of this artifact is no longer in the storage.")
    return file
