"""Errors of commands: a message on stderr and exit code 1 instead of a traceback."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from nightshift.errors import NightshiftError, NotFound, RequestError


class CommandGroup(TyperGroup):
    """A group of commands: errors of Nightshift become a message on stderr and exit code 1; help lists panels."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands under the titles of their panels, in the order of registration."""
        panels: dict[str, list[Any]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panels.setdefault(getattr(command, "rich_help_panel", None) or "Commands", []).append((name, command))
        width = formatter.width - 6 - max((len(name) for found in panels.values() for name, _ in found), default=0)
        for panel, found in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(name, command.get_short_help_str(width)) for name, command in found])

    def invoke(self, ctx: Any) -> Any:
        """Run the command and report its error."""
        try:
            return super().invoke(ctx)
        except NightshiftError as error:
            report(error, _next_step(ctx, error))
        except BrokenPipeError:  # not an error: `nightshift jobs | head` closes the pipe early
            raise
        except OSError as error:
            typer.echo(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}", err=True)
        except UnicodeError:
            typer.echo("error: an argument or a file is not valid UTF-8", err=True)
        raise typer.Exit(1)


def _next_step(ctx: Any, error: NightshiftError) -> str:
    """Return a suggestion for a name that does not exist."""
    if not isinstance(error, NotFound):
        return ""
    from nightshift.cli import suggestions
    from nightshift.cli.options import client

    return suggestions.nearest_name(client(ctx), str(error))


def report(error: NightshiftError, next_step: str = "") -> None:
    """Print `error: detail`, then one line per wrong field."""
    if isinstance(error, RequestError) and error.errors:
        fields = [(".".join(map(str, field.loc)) or "(body)", field.msg) for field in error.errors]
        typer.echo(f"error: {error.title.lower()}", err=True)
        for path, message in fields:
            typer.echo(f"  {path}: {message}", err=True)
    else:
        typer.echo(f"error: {error}{next_step}", err=True)
