"""Commands that run processes: the whole stack on one machine, the demo, and the single processes of production."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nightshift.cli.options import data_dir as common_data_dir


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


#: command -> (module that is that process, its help)
PROCESSES = {
    "api": ("api.server", "The HTTP API."),
    "worker": ("worker.main", "One worker per GPU of this host, or one for its CPU."),
    "beat": ("worker.beat", "Maintenance: rings lost doorbells, takes jobs back from dead workers. One is enough."),
    "flower": ("api.flower.app", "Flower: workers and attempts in a browser."),
    "migrate": (
        "shared.db.migrate",
        "Bring the database's schema up to date; with --from, fill it from another database.",
    ),
    "copy-storage": ("shared.storage.copy", "Copy a storage folder to the bucket that the settings name."),
}


def register(app: typer.Typer) -> None:
    app.command("up")(up)
    app.command("demo")(demo)
    for name, (module, text) in PROCESSES.items():
        app.command(name, help=text, context_settings=_PASS_ON, add_help_option=False)(_process(module))


_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def _process(module: str) -> Callable[[typer.Context], None]:
    def run(ctx: typer.Context) -> None:
        """Become that process: it gets our process id, arguments and signals."""
        os.execv(sys.executable, [sys.executable, "-m", module, *ctx.args])

    return run


def up(
    ctx: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept; default NIGHTSHIFT_DATA_DIR, else nightshift-data.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0 picks a free one.")] = 8000,
    flower_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of Flower; 0 picks a free one.")] = 5555,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers; default: one per GPU, else one.")] = None,
    device: Annotated[Device, typer.Option(help="What workers use; auto: GPUs if there are any.")] = Device.auto,
) -> None:
    """Run everything on this machine: Redis, SQLite, API, worker, beat, Flower. Ctrl-C drains and stops."""
    from api.launcher.command import up as run
    from api.launcher.stack import Options
    from shared.settings import get_settings

    folder = data_dir or Path(common_data_dir(ctx) or get_settings().data_dir)
    raise typer.Exit(run(Options(folder, port, flower_port, workers, device.value)))


def demo(
    data_dir: Annotated[Path, typer.Option(help="Where the demo keeps its data and artifacts.")] = Path("demo-data"),
) -> None:
    """Start the stack, train on the built-in digits, show the results, stop. Exit code 1 if it learned too little."""
    from api.commands.demo import run

    raise typer.Exit(run(data_dir))
