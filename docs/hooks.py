"""Hooks of `mkdocs build`: the reference pages are made from the code, at build time."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File, Files

from tools import reference


def on_files(files: Files, config: Any) -> Files:
    for name, text in reference.pages().items():
        files.append(File.generated(config, f"reference/{name}", content=text))
    return files
