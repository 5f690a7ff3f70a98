"""The documentation names only what exists: commands, options, targets, modules, settings, files, headings, routes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
from functools import cache
from typing import Any

import pytest
import yaml

from api.app import create_app
from nightshift.cli.app import whole_command
from nightshift.cli.registry import COMMANDS
from shared.settings import Settings
from shared.specs.jobs import job_spec_adapter
from tests.support import warm
from tests.support.paths import ROOT
from tools import reference
from tools.settings_page import page
from worker.supervisor.secrets import VARIABLE

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}
#: A name in the settings' form that is none: the switch of the test suite.
SWITCHES = {"NIGHTSHIFT_FAILPOINT", "NIGHTSHIFT_ENGINE"}


def code(text: str) -> list[str]:
    """Lines of fenced blocks (joined where they end in a backslash), and inline code."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    lines = "\n".join(fenced).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return [line.strip() for line in [*lines, *inline]]


#: What may stand before a command: a prompt, settings for it alone, a container to run it in, `key=$(`.
BEFORE = re.compile(r"(?:\$ |sudo |[A-Z_]+=\S+ |docker compose exec \S+ |\S+ \|\| )+")


def beginning(word: str) -> list[tuple[str, str]]:
    lines = [(name, BEFORE.sub("", line, count=1)) for name, text in TEXTS.items() for line in code(text)]
    return [(name, line) for name, line in lines if re.match(rf"{word}(\s|$)", line)]


@cache
def commands() -> Any:
    return whole_command()


@cache
def process_flags(name: str) -> set[str]:
    """Of the commands that become another process: what that says about itself."""
    shown = warm.run(COMMANDS[name].module, "--help", environment=os.environ).stdout
    return set(re.findall(r"(?<!\S)--?\w[\w-]*", shown))


def flags(command: Any) -> set[str]:
    if command.name in COMMANDS and COMMANDS[command.name].is_process:
        return process_flags(command.name)
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def all_flags(command: Any) -> set[str]:
    children = getattr(command, "commands", {}).values()
    return flags(command).union(*(all_flags(child) for child in children))


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
            left = left[: left.index(">")] if ">" in left else left
            assert {word.split("=")[0] for word in left if word.startswith("-")} <= flags(command) | {"--help"}


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
    named = set(re.findall(r"NIGHTSHIFT_[A-Z_]*[A-Z]", TEXTS[name]))
    assert {variable for variable in named if not f"{variable}_".startswith(VARIABLE)} <= known | SWITCHES


def test_every_setting_is_documented_as_it_is() -> None:
    assert TEXTS["docs/settings.md"] == page(), "run: python -m tools.settings_page > docs/settings.md"


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


def test_pages_hold_no_log_of_the_machine_that_made_them() -> None:
    """Figures are pasted from terminals, where libraries write, too."""
    logged = re.compile(
        r"site-packages/|^(?:WARNING: All log messages|[IWEF]\d{4} )|^\s+warnings\.warn\(", re.MULTILINE
    )
    assert [name for name, text in TEXTS.items() if logged.search(text)] == []


def test_every_decision_is_listed() -> None:
    listed = set(re.findall(r"\]\(([^)]+)\)", TEXTS["docs/decisions/README.md"]))
    assert listed == {path.name for path in ROOT.glob("docs/decisions/*.md")} - {"README.md"}


@pytest.mark.parametrize("name", TEXTS)
def test_routes_exist(name: str) -> None:
    patterns = [re.sub(r"\{[^}]+\}", "[^/]+", path) for path in routes()]
    named = re.findall(
        r"(?:127\.0\.0\.1:8000|GET |POST |PUT |`)(/(?:v1/[\w/{}-]+(?:\.\w+)?|healthz|readyz|metrics))", TEXTS[name]
    )
    for route in named:
        assert any(re.fullmatch(pattern, route) for pattern in patterns), f"there is no route {route}"


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"CHANGELOG.md", "CONTRIBUTING.md"}))
def test_options_named_alone_exist(name: str) -> None:
    named = {flag for line in code(TEXTS[name]) if (flag := line.split("=")[0].split(" ")[0]).startswith("--")}
    assert named <= all_flags(commands()), named - all_flags(commands())


def blocks(language: str) -> list[tuple[str, str]]:
    found = rf"^```{language}\n(.*?)^```"
    return [(name, block) for name, text in TEXTS.items() for block in re.findall(found, text, re.M | re.S)]


@pytest.mark.parametrize(("name", "block"), blocks("json"))
def test_jobs_shown_are_jobs(name: str, block: str) -> None:
    if block.startswith('{"kind"'):
        job_spec_adapter.validate_python(json.loads(block))


def test_series_named_exist() -> None:
    known = set(re.findall(r"`(nightshift_\w+)`", reference.metrics()))
    known |= {f"{name}{end}" for name in known for end in ("_total", "_bucket", "_sum", "_count")}
    for name, text in TEXTS.items():
        if name != "CHANGELOG.md":
            named = {line.split("{")[0] for line in code(text) if re.match(r"nightshift_\w*[a-z]\b", line)}
            assert named <= known, f"{name}: {named - known}"


def test_every_alert_is_explained() -> None:
    alerts = yaml.safe_load((ROOT / "docs" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    explained = set(re.findall(r"`(Nightshift\w+)`", TEXTS["docs/howto/monitoring.md"]))
    assert explained == {rule["alert"] for rule in alerts}
