"""The commands of `nightshift`: the help text and the module of each.

A module is imported when one of its commands runs, so `nightshift --help` starts fast and the client can be installed
without the packages of the server. A command whose packages are missing names the extra to install.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import typer
from typer.main import get_command

from nightshift.cli.errors import CommandGroup
from nightshift.errors import ConfigurationError


@dataclass(frozen=True)
class Entry:
    """A command. Its module has a typer application `app` with the command, or is run as a process (`python -m`)."""

    help: str
    module: str
    panel: str = "Jobs"
    is_process: bool = False
    #: The extra that installs the packages it needs; empty: none.
    extra: str = ""


def _client(module: str, panel: str, **helps: str) -> dict[str, Entry]:
    return {name: Entry(help, f"nightshift.cli.commands.{module}", panel) for name, help in helps.items()}


#: Extra -> packages whose presence shows that it is installed.
NEEDS = {
    "": (),
    "server": ("celery", "fastapi", "flower", "sqlmodel"),
    "embedded": ("celery", "fastapi", "flower", "sqlmodel"),
    "torch": ("celery", "safetensors", "sqlmodel"),
    "s3": ("boto3", "sqlmodel"),
    "testing": ("pytest", "safetensors", "sqlmodel"),
}

COMMANDS: dict[str, Entry] = {
    **_client(
        "jobs",
        "Jobs",
        jobs="List jobs, newest first.",
        show="Show one job: state, progress, result, error, settings.",
        watch="Follow jobs live until they end.",
        logs="Print the log and the output of a job.",
        metrics="Print the metrics of jobs, as a table, CSV, JSON or curves.",
        artifacts="List the files of a job, or download them.",
        attempts="List the attempts of a job: worker, outcome, step at which it resumed.",
        shards="List the shards of a batch inference: state, progress, worker.",
        checkpoints="List the checkpoints of a job.",
        why="Explain a job's state: why it waits, what it does, or how it ended.",
        cancel="Stop jobs; no result is kept.",
        finish="Stop running jobs now and keep their best model as the result.",
        pause="Stop jobs at a checkpoint, until `resume`.",
        resume="Put paused jobs back in the queue.",
    ),
    **_client(
        "edit", "Jobs", edit="Change a job's name, notes, tags or priority.", rerun="Run a job again, with changes."
    ),
    **_client(
        "archive",
        "Jobs",
        archive="Hide finished jobs from lists.",
        unarchive="Show archived jobs in lists again.",
        delete="Delete finished jobs and their files.",
    ),
    **_client("submit", "Jobs", submit="Submit a job: train, finetune, infer, evaluate, run, or any body with -f."),
    **_client("sweep", "Jobs", sweep="Search for good settings of a job: submit, list, show, pause, stop sweeps."),
    **_client("datasets", "Resources", datasets="List, add, append to, show and delete data sets."),
    **_client("models", "Resources", models="List, register, compare, promote and roll back models."),
    **_client("schedules", "Resources", schedules="List, add, change and pause schedules."),
    **_client("webhooks", "Resources", webhooks="List, add, change and test webhooks."),
    **_client("families", "Resources", families="List the model families and their presets, and check one."),
    **_client("programs", "Resources", programs="List the programs that jobs may run, and check one."),
    **_client("workers", "Resources", workers="List the workers, their devices and jobs."),
    **_client("devices", "Resources", devices="List, cordon, drain, uncordon and forget the devices of all hosts."),
    "keys": Entry(
        "Create, list and revoke API keys in the database.", "api.commands.keys", "Resources", extra="server"
    ),
    "check": Entry(
        "Check settings, database, broker, storage and devices.", "api.commands.check", "Resources", extra="server"
    ),
    "up": Entry("Run everything on this machine.", "api.commands.up", "Processes", extra="embedded"),
    "demo": Entry(
        "Start everything, train on the built-in digits, show the results, stop.",
        "api.commands.demo",
        "Processes",
        extra="embedded",
    ),
    "api": Entry("Run the HTTP API.", "api.server", "Processes", True, "server"),
    "worker": Entry(
        "Run one worker per GPU of this host, or one or more for its CPU.", "worker.main", "Processes", True, "torch"
    ),
    "beat": Entry(
        "Run the maintenance of the queue; one process is enough.", "worker.beat", "Processes", True, "server"
    ),
    "flower": Entry("Run Flower with Nightshift's pages.", "api.flower.app", "Processes", True, "server"),
    "migrate": Entry(
        "Migrate the database's schema to this version.", "shared.db.migrate", "Processes", True, "server"
    ),
    "copy-storage": Entry(
        "Copy a storage folder to the configured bucket.", "shared.storage.copy", "Processes", True, "s3"
    ),
}


def group(name: str, more: str = "") -> typer.Typer:
    """Return the application of a command with commands of its own; `more` is added to its help."""
    text = COMMANDS[name].help + more
    return typer.Typer(
        cls=CommandGroup, help=text, invoke_without_command=True, rich_markup_mode=None, add_completion=False
    )


def missing(entry: Entry) -> list[str]:
    """Return the packages that the command needs and that are not installed."""
    return [package for package in NEEDS[entry.extra] if find_spec(package) is None]


def require(command: str, extra: str) -> None:
    """Raise `ConfigurationError` that names the extra to install, unless its packages are there."""
    packages = [package for package in NEEDS[extra] if find_spec(package) is None]
    if packages:
        raise ConfigurationError(
            f"`nightshift {command}` needs packages that are not installed ({', '.join(packages)}): "
            f"pip install 'nightshift[{extra}]'"
        )


@cache
def load(name: str) -> Any:
    """Return the command from its module. Raises `ConfigurationError` that names the extra to install."""
    entry = COMMANDS[name]
    require(name, entry.extra)
    if entry.is_process:
        return get_command(_process(name, entry))
    command: Any = get_command(import_module(entry.module).app)
    command = getattr(command, "commands", {}).get(name, command)
    command.name = name
    return command


def _process(name: str, entry: Entry) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    pass_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name, help=entry.help, context_settings=pass_on, add_help_option=False)(_exec(entry.module))
    return app


def _exec(module: str) -> Callable[[typer.Context], None]:
    def run(ctx: typer.Context) -> None:
        """Replace this process with the command's, so that it keeps the process id and receives the signals."""
        os.execv(sys.executable, [sys.executable, "-m", module, *ctx.args])

    return run
