"""The public package: its exported names, and that it works where nothing but the client is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import nightshift
from tests.support.paths import ROOT

#: Distributions of a fresh environment with the plain package, pip included.
MOST_DISTRIBUTIONS = 20

EXPORTED = [
    "ApiUnreachable",
    "Artifact",
    "AsyncArtifact",
    "AsyncClient",
    "AsyncJob",
    "AsyncSweep",
    "Client",
    "Comparison",
    "ConfigurationError",
    "Conflict",
    "DamagedDownload",
    "Dataset",
    "DatasetVersion",
    "Delivery",
    "Device",
    "Event",
    "Family",
    "FieldError",
    "Forbidden",
    "InstalledProgram",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobState",
    "MalformedRequest",
    "MetricTable",
    "Model",
    "ModelVersion",
    "NightshiftError",
    "NotFound",
    "RequestError",
    "Schedule",
    "ServerError",
    "StorageFull",
    "Sweep",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMedia",
    "Webhook",
    "Worker",
]


def test_exported_names_are_these_and_are_there() -> None:
    assert sorted(nightshift.__all__) == EXPORTED
    assert all(getattr(nightshift, name).__name__ == name for name in EXPORTED)
    assert set(EXPORTED) <= set(dir(nightshift))


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Cleint"):
        nightshift.Cleint  # noqa: B018


def test_types_are_shipped() -> None:
    assert (Path(nightshift.__file__).parent / "py.typed").exists()


# -- the plain installation -----------------------------------------------------------------------


def requirements(name: str) -> list[str]:
    """What a distribution needs here without any extra."""
    found = [Requirement(text) for text in distribution(name).requires or []]
    return [r.name for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def closure() -> set[str]:
    """The distributions that the plain package brings, by normalized name."""
    found: set[str] = set()
    wanted = [Requirement(text).name for text in plain_dependencies()]
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name not in found:
            found.add(name)
            wanted += requirements(name)
    return found


def plain_dependencies() -> list[str]:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dependencies: list[str] = project["dependencies"]
    return dependencies


def test_a_plain_installation_is_small() -> None:
    ours_and_pip = 2
    assert len(closure()) + ours_and_pip <= MOST_DISTRIBUTIONS, sorted(closure())


#: Finds what a plain installation has, and nothing else: our own packages of the server are missing as well.
PLAIN = """
import sys
from importlib.machinery import PathFinder
allowed = {*sys.argv.pop(1).split(","), *sys.stdlib_module_names, "nightshift"}
class Plain:
    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        return PathFinder.find_spec(name, path, target) if top in allowed or top.startswith("_sysconfigdata") else None
kept = ("BuiltinImporter", "FrozenImporter")
sys.meta_path[:] = [*(finder for finder in sys.meta_path if getattr(finder, "__name__", "") in kept), Plain]
"""


def plain(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code where only what the plain package brings can be imported."""
    modules = {name for dist in closure() for name in top_level(dist)}
    argv = [sys.executable, "-c", PLAIN + code, ",".join(modules), *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


def top_level(name: str) -> set[str]:
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        return set()
    return {file.parts[0].removesuffix(".py").split(".")[0] for file in files if file.suffix in (".py", ".so")}


def test_client_and_command_line_work_without_the_server() -> None:
    code = "import nightshift\nfor name in nightshift.__all__: getattr(nightshift, name)\n"
    done = plain(code + "nightshift.Client('http://x', 'k').close()")
    assert done.returncode == 0, done.stderr


#: A command that starts a process after all would leave the filter, and never end.
COMMAND = """
import os
def refuse(*command):
    raise AssertionError(f"started {command}")
os.execv = refuse
from nightshift.cli.app import main
main()
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["jobs", "--help"], ["submit", "train", "--help"], ["models", "--help"]]
)
def test_help_needs_no_server(arguments: list[str]) -> None:
    done = plain(COMMAND, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Usage: nightshift" in done.stdout


@pytest.mark.parametrize(
    ("command", "extra"),
    [("up", "embedded"), ("demo", "embedded"), ("api", "server"), ("worker", "torch"), ("beat", "server"),
     ("flower", "server"), ("migrate", "server"), ("copy-storage", "s3"), ("keys", "server"), ("check", "server")],
)  # fmt: skip
def test_a_command_whose_part_is_missing_names_the_extra(command: str, extra: str) -> None:
    done = plain(COMMAND, command)
    assert done.returncode == 1
    assert f"pip install 'nightshift[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
