"""The documentation site: it builds without a warning, needs nothing from elsewhere, and its pages from code are
whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from shared.jobs.states import TRANSITIONS
from shared.settings import Settings
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


#: `mkdocs build`, which leaves the pages that are made from code in a file too: making them takes four seconds.
BUILD = """
import json, sys
from pathlib import Path
from tools import reference
pages = reference.pages()
Path(sys.argv.pop(1)).write_text(json.dumps(pages))
reference.pages = lambda: pages
from mkdocs.__main__ import cli
cli()
"""


@dataclass(frozen=True)
class Site:
    folder: Path
    reference: dict[str, str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Built with every warning an error: a link or a heading that leads nowhere is one."""
    root = tmp_path_factory.mktemp("site")
    folder, pages = root / "html", root / "reference.json"
    command = [sys.executable, "-c", BUILD, str(pages), "build", "--strict", "-q", "-d", str(folder)]
    built = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert built.stderr.strip() == ""
    return Site(folder, json.loads(pages.read_text()))


def test_the_site_asks_nothing_of_other_hosts(site: Site) -> None:
    pages = list(site.folder.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?:)?//[^"]+"', page.read_text())
        assert not loaded, page


def test_every_page_is_in_the_navigation_or_linked() -> None:
    nav = re.findall(r"[\w/-]+\.md", yaml.safe_dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    for path in (ROOT / "docs").rglob("*.md"):
        name = path.relative_to(ROOT / "docs").as_posix()
        assert name in nav or name.startswith(("decisions/", "benchmarks/")), f"docs/{name} is in no menu of mkdocs.yml"


def test_the_reference_covers_what_there_is(site: Site) -> None:
    pages = site.reference
    assert "## POST /v1/jobs\n" in pages["http.md"]
    assert "## nightshift submit train\n" in pages["commands.md"]
    assert "mnist-3conv" in pages["specs.md"]
    assert "| `nightshift_queue_depth` | gauge |" in pages["metrics.md"]
    assert "| device, priority |" in pages["metrics.md"]
    assert "| `job.succeeded` | `attempt`, `job_id` |" in pages["events.md"]
    assert "`job.submitted`" in pages["events.md"]  # emitted through partial(emit, …)
    assert len(Settings.model_fields) > 10


def test_the_diagram_has_every_move() -> None:
    """GitHub draws it; the site shows its text, for a Mermaid that draws there would be fetched from elsewhere."""
    page = (ROOT / "docs" / "concepts.md").read_text()
    drawn = re.findall(r"^ +(\w+) --> (\w+|\[\*\])", page, re.M)
    moves = [(source, target) for source, targets in TRANSITIONS.items() for target in targets or ["[*]"]]
    assert sorted(drawn) == sorted(moves)
