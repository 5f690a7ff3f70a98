"""Commands of the server and the workers. Their packages are imported when one of them runs: a client has none of them.

A command whose packages are missing says which extra to install.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import typer
from typer.main import get_command

from nightshift.cli.errors import CommandGroup
from nightshift.errors import ConfigurationError


@dataclass(frozen=True)
class ServerCommand:
    """A command of the server: its module, its help, the extra that installs it, and packages that only the extra brings."""

    module: str
    help: str
    extra: str = "server"
    needs: tuple[str, ...] = ("celery", "fastapi", "sqlmodel")
    panel: str = "Processes"
    #: The module is a process of its own (`python -m`); else it holds a typer application named `app`.
    is_process: bool = False


COMMANDS = {
    "keys": ServerCommand("api.commands.keys", "API keys, straight in the database.", panel="Resources"),
    "check": ServerCommand(
        "api.commands.check",
        "Check settings, database, broker, storage and devices, and say what to do.",
        panel="Resources",
    ),
    "up": ServerCommand(
        "api.commands.up",
        "Run everything on this machine: Redis, SQLite, API, worker, beat, Flower.",
        "embedded",
        ("celery", "fastapi", "sqlmodel", "flower"),
    ),
    "demo": ServerCommand(
        "api.commands.demo", "Start the stack, train on the built-in digits, show the results, stop.", "embedded"
    ),
    "api": ServerCommand("api.server", "The HTTP API.", is_process=True),
    "worker": ServerCommand(
        "worker.main",
        "One worker per GPU of this host, or one for its CPU.",
        "torch",
        ("celery", "safetensors", "sqlmodel"),
        is_process=True,
    ),
    "beat": ServerCommand(
        "worker.beat",
        "Maintenance: rings lost doorbells, takes jobs back from dead workers. One is enough.",
        is_process=True,
    ),
    "flower": ServerCommand(
        "api.flower.app", "Flower: workers and attempts in a browser.", needs=("celery", "flower"), is_process=True
    ),
    "migrate": ServerCommand(
        "shared.db.migrate",
        "Bring the database's schema up to date; with --from, fill it from another database.",
        needs=("alembic", "sqlmodel"),
        is_process=True,
    ),
    "copy-storage": ServerCommand(
        "shared.storage.copy",
        "Copy a storage folder to the bucket that the settings name.",
        "s3",
        ("boto3", "sqlmodel"),
        is_process=True,
    ),
}

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


class RootGroup(CommandGroup):
    """The `nightshift` command. What `--help` lists of the server are names and help texts; a call imports the command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name not in COMMANDS or COMMANDS[name].is_process or (ctx.resilient_parsing and missing(COMMANDS[name])):
            return name, command, rest
        return name, imported(name), rest


def register(app: typer.Typer) -> None:
    for name, command in COMMANDS.items():
        listed = app.command(
            name, help=command.help, context_settings=_PASS_ON, add_help_option=False, rich_help_panel=command.panel
        )
        listed(_process(name, command))


def missing(command: ServerCommand) -> list[str]:
    """Return the packages that the command needs and that are not installed."""
    return [package for package in command.needs if find_spec(package) is None]


def _require(name: str, command: ServerCommand) -> None:
    packages = missing(command)
    if packages:
        raise ConfigurationError(
            f"`nightshift {name}` is not installed ({', '.join(packages)} missing): pip install 'nightshift[{command.extra}]'"
        )


def imported(name: str) -> Any:
    """Return the command itself, from its module. Raises `ConfigurationError` that names the extra to install."""
    _require(name, COMMANDS[name])
    command = get_command(import_module(COMMANDS[name].module).app)
    command.name = name
    return command


def _process(name: str, command: ServerCommand) -> Callable[[typer.Context], None]:
    def run(ctx: typer.Context) -> None:
        """Become that process: it keeps this one's id and gets its arguments and signals."""
        _require(name, command)
        os.execv(sys.executable, [sys.executable, "-m", command.module, *ctx.args])

    return run
