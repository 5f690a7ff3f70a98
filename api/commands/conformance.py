"""`nightshift families check` and `nightshift programs check`: run the conformance kit and keep its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import typer

from api.commands.database import is_configured, writing
from nightshift.cli.render import output
from nightshift.entry_points import Installed
from nightshift.errors import ConfigurationError
from nightshift.plugins import installed_families, installed_programs
from shared.fleet import conformance

Group = Literal["family", "program"]


def check(ctx: typer.Context, group: Group, name: str, framework: str | None, target: Path | None) -> None:
    """Check an installed family or program, write the report, and exit with 1 if a check did not pass.

    Raises ConfigurationError if it is not installed or cannot be used.
    """
    found = _installed(group, name)
    report = {group: name, "package": found.package, "record_sha256": found.record_sha256} | _run(
        group, name, framework
    )
    path = target or Path(f"{name}-conformance.json")
    path.write_text(json.dumps(report, indent=1) + "\n")
    failed = [one for one in report["checks"] if one["outcome"] not in ("passed", "skipped")]
    for one in failed:
        print(f"{one['check']}: {one['reason']}")
    passed = sum(one["outcome"] == "passed" for one in report["checks"])
    print(f"{name} of {found.package}: {passed} checks passed, {len(failed)} did not; the report is in {path}")
    _keep(ctx, group, name, framework, found, report)
    if not report["passed"]:
        raise typer.Exit(1)


def _installed(group: Group, name: str) -> Installed[Any]:
    found: Installed[Any] | None = (installed_families if group == "family" else installed_programs)([name]).get(name)
    if found is None:
        raise ConfigurationError(f"no installed package has a {group} of the name {name}")
    if found.declared is None:
        raise ConfigurationError(f"{name} cannot be used: {found.error}")
    return found


def _run(group: Group, name: str, framework: str | None) -> dict[str, Any]:
    """Run the kit in a folder of its own, where no settings of another project apply; return its document."""
    with tempfile.TemporaryDirectory(prefix="nightshift-check-") as folder:
        report, settings = Path(folder, "report.json"), Path(folder, "pytest.ini")
        settings.write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "--pyargs", "nightshift.testing", f"--{group}={name}"]
        command += [f"--framework={framework}"] if framework else []
        command += [f"--conformance-report={report}", "-q", "--tb=no", "--no-header", "--no-summary"]
        command += ["-p", "no:cacheprovider", "-c", str(settings), f"--rootdir={folder}", f"--basetemp={folder}/temp"]
        subprocess.run(command, cwd=folder, env=_environment(), check=False)
        if not report.exists():
            raise ConfigurationError(f"the checks of {name} could not be run; see above")
        document: dict[str, Any] = json.loads(report.read_text())
        return document


def _environment() -> Mapping[str, str]:
    """Return the environment without options of pytest that belong to another project."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}


def _keep(
    ctx: typer.Context, group: Group, name: str, framework: str | None, found: Installed[Any], report: dict[str, Any]
) -> None:
    """Store the report in the database, if there is one and the check was of all frameworks."""
    missing = [name for name in getattr(found.declared, "frameworks", ()) if find_spec(name) is None]
    if framework is not None or missing:
        why = f"{', '.join(missing)} is not installed here" if missing else "checked in one framework only"
        return output.print_note(f"The report is not stored in the database: {why}.")
    if not is_configured(ctx):
        return output.print_note(
            "There is no database here, so the promise of its jobs stays as it is: set NIGHTSHIFT_DATABASE_URL or "
            "--data-dir and check again."
        )
    with writing(ctx) as conn:
        conformance.store(conn, f"{group} {name}", found.record_sha256, found.package, report)
    return None
