"""The `nightshift` command: the global options, and every group of commands.

Commands import what they need when they run, so that `--help` and shell completion answer at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from nightshift.cli import server
from nightshift.cli.commands import archive, edit, fleet, jobs
from nightshift.cli.commands.submit import submit
from nightshift.cli.options import Options

app = typer.Typer(
    name="nightshift",
    cls=server.RootGroup,
    help="Train, fine-tune and run models in a queue. `nightshift up` starts everything on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(submit, name="submit", rich_help_panel="Jobs")
jobs.register(app, panel="Jobs")
edit.register(app, panel="Jobs")
archive.register(app, panel="Jobs")
fleet.register(app, panel="Resources")
server.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"nightshift {version('nightshift')}")
        except PackageNotFoundError:
            typer.echo("nightshift (not installed; running from its source)")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    url: Annotated[str | None, typer.Option(help="The API; default NIGHTSHIFT_API_URL, else what `up` noted.")] = None,
    key: Annotated[
        str | None, typer.Option(help="The API key; default NIGHTSHIFT_API_KEY, else the data folder's.")
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Data folder of a local stack; default NIGHTSHIFT_DATA_DIR.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    ctx.obj = Options(url, key, data_dir)


def main() -> None:
    app(prog_name="nightshift")


if __name__ == "__main__":
    main()
