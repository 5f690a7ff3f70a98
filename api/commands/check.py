"""`nightshift check`: print the findings of `doctor`, or every setting with its value and meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.table import Table
from rich.text import Text

from api.commands import doctor
from api.commands.doctor import Finding, read_settings, without_password
from nightshift.cli.options import AsJson, data_dir
from nightshift.cli.render import output
from nightshift.errors import ConfigurationError
from shared.settings import Settings

app = typer.Typer(rich_markup_mode=None, add_completion=False)

STYLES: dict[doctor.Level, str] = {"ok": "green", "note": "yellow", "fails": "bold red"}


@app.command()
def check(
    ctx: typer.Context,
    settings: Annotated[
        bool, typer.Option("--settings", help="List every setting with its value and meaning.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check settings, database, broker, storage and devices. Prints remedies; exit code 1 if a check fails."""
    if settings:
        return print_settings(data_dir(ctx), as_json)
    findings = doctor.run(data_dir(ctx))
    if as_json:
        output.print_items([finding.as_json() for finding in findings])
    else:
        print_findings(findings)
    if any(finding.level == "fails" for finding in findings):
        raise typer.Exit(1)
    return None


def print_findings(findings: list[Finding]) -> None:
    """Print findings as a table."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        detail = Text(finding.detail)
        if finding.advice:
            detail.append(f"\n{finding.advice}", "italic")
        table.add_row(Text(finding.level, STYLES[finding.level]), Text(finding.part), detail)
    output.show(table)


def settings_list(data_dir: str | None = None) -> list[dict[str, Any]]:
    """Return every setting: its variable, current value (secrets hidden), default and meaning."""
    try:
        current: Settings | None = read_settings(data_dir)
    except ConfigurationError:
        current = None
    return [
        {
            "name": f"NIGHTSHIFT_{name.upper()}",
            "value": _shown(getattr(current, name)) if current else None,
            "default": _shown(field.get_default(call_default_factory=True, validated_data={})),
            "set": bool(current and name in current.model_fields_set),
            "description": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return without_password(secret) if "://" in secret else str(value)
    if isinstance(value, str):
        return without_password(value) if "://" in value else value
    return str(value) if isinstance(value, Path) else value


def print_settings(data_dir: str | None, as_json: bool) -> None:
    """Print every setting with its value and meaning."""
    rows = settings_list(data_dir)
    if as_json:
        return output.print_items(rows)
    out = output.console()
    for row in rows:
        value = row["value"] if row["value"] not in (None, "") else "(empty)"
        mark = "set" if row["set"] else "default"
        out.print(
            Text.assemble((row["name"], "bold"), " = ", (str(value), "cyan"), (f"  ({mark})", "dim")), soft_wrap=True
        )
        out.print(Text(f"    {row['description']}"), soft_wrap=not out.is_terminal)
    return None
