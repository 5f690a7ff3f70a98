"""Hooks of `mkdocs build`: pages generated at build time, from the code or from files at the root of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from tools import reference

ROOT = Path(__file__).parents[1]
#: File at the root -> page of the site.
ROOT_PAGES = {"CHANGELOG.md": "changelog.md", "UPGRADING.md": "upgrading.md", "SECURITY.md": "security.md"}


def on_files(files: Files, config: Any) -> Files:
    pages = {f"reference/{name}": text for name, text in reference.pages().items()}
    pages |= {page: _site_links((ROOT / name).read_text()) for name, page in ROOT_PAGES.items()}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def _site_links(text: str) -> str:
    """Rewrite the links of a file at the root to those of its page on the site."""
    text = text.replace("](docs/", "](")
    for name, page in ROOT_PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return text
