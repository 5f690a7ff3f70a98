"""What frames the project: the workflow runs what CI runs, hooks call tools that are installed, templates are whole."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load((ROOT / name).read_text(), yaml.BaseLoader)
    return found


def test_the_workflow_runs_the_script_of_ci_on_the_oldest_python() -> None:
    workflow = load(".github/workflows/ci.yml")
    job = workflow["jobs"]["ci"]
    assert {"push", "pull_request"} <= set(workflow["on"])
    assert "bash .ci/run" in [step.get("run") for step in job["steps"]]
    pythons = job["strategy"]["matrix"]["python"]
    assert pythons[0] == PROJECT["requires-python"].removeprefix(">=")
    assert {f"Programming Language :: Python :: {version}" for version in pythons} <= set(PROJECT["classifiers"])


def test_hooks_download_nothing_and_call_what_the_extra_lint_installs() -> None:
    for repo in load(".pre-commit-config.yaml")["repos"]:
        assert repo["repo"] == "local"
        for hook in repo["hooks"]:
            assert hook["language"] == "system"
            tool = hook["entry"].split()[0]
            assert tool.startswith(".venv/bin/")
            assert (Path(sys.prefix) / "bin" / Path(tool).name).exists(), tool


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_ask_something(name: str) -> None:
    form = load(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"]
    assert form["description"]
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert asked
    assert len({field["id"] for field in asked}) == len(asked)
    assert all(field["attributes"]["label"] for field in asked)
