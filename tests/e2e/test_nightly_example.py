"""docs/nightly.md, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.up import Up, up

pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "nightly.md").read_text(), re.M | re.S)


def run(stack: Up, folder: Path) -> str:
    """All of them in one shell, which stops at the first that fails; what they print."""
    nightshift = f'nightshift() {{ "{sys.executable}" -m nightshift.cli.app --data-dir "{stack.data_dir}" "$@"; }}'
    python = f'python() {{ "{sys.executable}" "$@"; }}'
    script = "\n".join(["set -e", nightshift, python, *blocks()])
    (folder / "docs").symlink_to(ROOT / "docs")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_the_example_does_what_its_page_says(tmp_path: Path) -> None:
    with up(tmp_path / "data") as stack:
        told = run(stack, tmp_path)
        assert re.findall(r"daily-digits@\d$", told, re.M)[:3] == [f"daily-digits@{n}" for n in (1, 2, 3)]
        said = re.findall(r"((?:not )?promoted: .*)", told)
        assert said[0] == "promoted: no champion yet"
        assert re.search(r"^promoted: .* better by ", said[1])
        assert re.search(r"^not promoted: .* worse by ", said[2])
        changes = stack.client.model_history("daily-digits")
        assert (changes[0]["change"], changes[0]["why"]) == ("rollback", "complaints about sevens")
        assert changes[0]["to_version"] == changes[1]["from_version"]
        outcomes = [tick["outcome"] for tick in stack.client.schedule_history("nightly")]
        assert outcomes == ["submitted"] * 4
        assert [item["version"] for item in stack.client.dataset("daily-digits")["versions"]] == [1, 2, 4]
