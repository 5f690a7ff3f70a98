"""`nightshift up`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nightshift.cli.options import data_dir as common_data_dir

app = typer.Typer(rich_markup_mode=None, add_completion=False)


class Device(StrEnum):
    """Devices that workers can be started on."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


@app.command()
def up(
    ctx: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of all data; default NIGHTSHIFT_DATA_DIR, else nightshift-data.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0 picks a free one.")] = 8000,
    flower_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of Flower; 0 picks a free one.")] = 5555,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of workers; default: one per GPU, else one.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Device of the workers; auto: GPUs if there are any.")] = Device.auto,
) -> None:
    """Run everything on this machine. That is Redis, SQLite, API, workers, beat, Flower; Ctrl-C drains and stops it."""
    from api.launcher.command import up as run
    from api.launcher.stack import Options
    from shared.settings import get_settings

    folder = data_dir or Path(common_data_dir(ctx) or get_settings().data_dir)
    raise typer.Exit(run(Options(folder, port, flower_port, workers, device.value)))
