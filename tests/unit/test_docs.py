"""The documentation names only what exists: commands, options, targets, modules, settings, files, headings, routes."""

from __future__ import annotations

import importlib.util
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from api.client.cli import app
from api.client.settings_page import page
from api.main import create_app
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}
#: Names in the settings' form that are none: switches of the test suite.
SWITCHES = {"NIGHTSHIFT_FAILPOINT", "NIGHTSHIFT_TEST_KINDS"}


def code(text: str) -> list[str]:
    """Lines of fenced blocks (joined where they end in a backslash), and inline code."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    lines = "\n".join(fenced).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return [line.strip() for line in [*lines, *inline]]


def beginning(word: str) -> list[tuple[str, str]]:
    return [(name, line) for name, text in TEXTS.items() for line in code(text) if re.match(rf"{word}(\s|$)", line)]


@cache
def commands() -> Any:
    return typer.main.get_command(app)


@cache
def routes() -> list[str]:
    return list(create_app().openapi()["paths"])


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and what is left of them; fails when there is none."""
    command: Any = commands()
    while getattr(command, "commands", None) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize(("name", "line"), beginning("nightshift"))
def test_commands_and_their_options_exist(name: str, line: str) -> None:
    for alternative in line.split(" / "):
        words = shlex.split(alternative.replace("…", ""), comments=True)
        if words[0] == "nightshift":
            command, left = resolve(words[1:])
            known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
            if not command.context_settings.get("ignore_unknown_options"):
                assert {word.split("=")[0] for word in left if word.startswith("-")} <= known | {"--help"}


@pytest.mark.parametrize(("name", "line"), beginning("make"))
def test_make_targets_exist(name: str, line: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert all(word in targets for word in line.split()[1:2])


@pytest.mark.parametrize(("name", "line"), beginning(r"\S*python -m"))
def test_modules_exist(name: str, line: str) -> None:
    module = line.split()[2]
    assert module == "…" or importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("name", TEXTS)
def test_settings_exist(name: str) -> None:
    known = {f"NIGHTSHIFT_{field.upper()}" for field in Settings.model_fields}
    assert set(re.findall(r"NIGHTSHIFT_[A-Z_]*[A-Z]", TEXTS[name])) <= known | SWITCHES


def test_every_setting_is_documented_as_it_is() -> None:
    assert TEXTS["docs/settings.md"] == page(), "run: python -m api.client.settings_page > docs/settings.md"


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if not target.startswith("http"):
            path, _, heading = target.partition("#")
            file = (ROOT / name).parent / path if path else ROOT / name
            assert file.exists(), f"{target} does not exist"
            assert not heading or heading in headings(file.read_text()), f"{target}: no such heading"


def headings(text: str) -> set[str]:
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)", text, re.M)}


def test_every_decision_is_listed() -> None:
    listed = set(re.findall(r"\]\(([^)]+)\)", TEXTS["docs/decisions/README.md"]))
    assert listed == {path.name for path in ROOT.glob("docs/decisions/*.md")} - {"README.md"}


@pytest.mark.parametrize("name", TEXTS)
def test_routes_exist(name: str) -> None:
    patterns = [re.sub(r"\{[^}]+\}", "[^/]+", path) for path in routes()]
    named = re.findall(
        r"(?:127\.0\.0\.1:8000|GET |POST |PUT |`)(/(?:v1/[\w/{}-]+|healthz|readyz|metrics))", TEXTS[name]
    )
    for route in named:
        assert any(re.fullmatch(pattern, route) for pattern in patterns), f"there is no route {route}"
