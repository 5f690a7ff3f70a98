"""Load our templates and Flower's: ours extend Flower's `base.html`, and Flower's pages get our navigation.

Flower 2.2 has no hook for either, so two of its templates get one line each when they are loaded. If a version of
Flower changes the place of that line, the start fails, not a page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tornado.template import BaseLoader, Template

FOLDER = Path(__file__).parent
TEMPLATES = FOLDER / "templates"
STATIC = FOLDER / "static"

#: Prefix for the name of Flower's template, which ours of the same name extends.
STOCK = "flower/"

#: Flower's template -> (the text it must contain, the text inserted after it)
INSERTED = {
    "base.html": (
        '<link href="{{ static_url(\'css/flower.css\') }}" rel="stylesheet">',
        '{% include "ns_head.html" %}',
    ),
    "navbar.html": ('<ul class="app-nav navbar-nav">', '{% include "ns_tabs.html" %}'),
}


class Loader(BaseLoader):
    """Searches our folder first, then Flower's."""

    def __init__(self, flower: Path, **options: Any) -> None:
        super().__init__(**options)
        self._folders = (TEMPLATES, flower)

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """Return the name: names are not relative to the parent."""
        return name

    def _create_template(self, name: str) -> Template:
        folders = self._folders[1:] if name.startswith(STOCK) else self._folders
        path = next(path for folder in folders if (path := folder / name.removeprefix(STOCK)).is_file())
        return Template(with_ours(name, path.read_text(encoding="utf-8")), name=name, loader=self)


def with_ours(name: str, text: str) -> str:
    """Insert our line into Flower's template. Raises RuntimeError if its place is not found exactly once."""
    if name not in INSERTED:
        return text
    place, line = INSERTED[name]
    if text.count(place) != 1:
        raise RuntimeError(f"this version of Flower has a different {name}: it does not contain {place!r} exactly once")
    return text.replace(place, place + line)


def make_loader(flower: str) -> Loader:
    """Return the loader. Raises RuntimeError for a Flower version with unknown templates."""
    loader = Loader(Path(flower))
    for name in INSERTED:
        loader.load(name)
    return loader
