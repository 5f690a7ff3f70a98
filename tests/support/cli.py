"""The command line in this process. Its seventy commands are built once; typer would rebuild them at each call."""

from __future__ import annotations

from functools import cache
from typing import Any

import typer.testing
from typer.testing import Result

from nightshift.cli.app import app

typer.testing._get_command = cache(typer.testing._get_command)  # type: ignore[attr-defined]


def invoke(*args: str, **options: Any) -> Result:
    return typer.testing.CliRunner().invoke(app, args, **options)
