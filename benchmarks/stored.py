"""A file or folder as a stored version of a data set, without a database."""

from __future__ import annotations

from pathlib import Path

from shared.datasets import formats
from shared.datasets.ingest.build import ImageSource, store_images
from shared.datasets.ingest.build_text import store_text
from shared.datasets.ingest.source_files import open_files


def store(path: Path, root: Path) -> Path:
    """Store the content below `root`, unless it is there already; return the folder of the version."""
    with open_files(path) as files:
        source = formats.read(files)
        stored = store_images(root, source) if isinstance(source, ImageSource) else store_text(root, source)
    return stored.folder
