"""The `nightshift` command and its global options."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from nightshift.cli.errors import CommandGroup
from nightshift.cli.options import Options
from nightshift.cli.registry import COMMANDS, load, missing


class RootGroup(CommandGroup):
    """The commands, by name and help text; a command is imported when it is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, entry in COMMANDS.items():
            self.commands[name] = TyperCommand(name, help=entry.help, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command, imported unless its packages are missing during completion."""
        name, command, rest = super().resolve_command(ctx, args)
        is_listed_only = name not in COMMANDS or (ctx.resilient_parsing and missing(COMMANDS[name]))
        return name, command if is_listed_only else load(str(name)), rest


app = typer.Typer(
    name="nightshift",
    cls=RootGroup,
    help="Train, fine-tune and run models in a job queue. Start everything on this machine with `nightshift up`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from nightshift.versions import installed

        typer.echo(f"nightshift {installed() or '(not installed, running from source)'}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="URL of the API; default: NIGHTSHIFT_API_URL, then the data folder.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="API key; default: NIGHTSHIFT_API_KEY, then the data folder.")] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Data folder of `nightshift up`; default: NIGHTSHIFT_DATA_DIR.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Store the global options for the commands."""
    ctx.obj = Options(url, key, data_dir)


def whole_command() -> Any:
    """Return the command with all its commands imported, for the reference pages."""
    root: Any = typer.main.get_command(app)
    root.commands.update({name: load(name) for name in COMMANDS})
    return root


def main() -> None:
    """Run the command line."""
    app(prog_name="nightshift")


if __name__ == "__main__":
    main()
