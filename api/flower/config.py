"""Options of Flower, and refusal of unsafe ones.

By default, Flower 2.2 listens on every interface, needs no password and creates a new cookie secret at each start.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flower.options import default_options
from flower.views.tasks import TASK_COLUMNS

from nightshift.errors import ConfigurationError
from shared.settings import Settings

#: The user name that goes with an API key in Flower's password box.
USER = "nightshift"
#: Columns of the table of tasks; reconcile.py fills the first three with the attempt's facts from SQL.
COLUMNS = "args,kwargs,result,state,received,runtime,worker,uuid"
LABELS = {"args": "Job", "kwargs": "Work", "result": "Progress", "uuid": "Task"}


def refuse_unsafe(environ: Mapping[str, str]) -> None:
    """Refuse the variable that would open Flower's API to all; other FLOWER_* variables have no effect."""
    if environ.get("FLOWER_UNAUTHENTICATED_API"):
        raise ConfigurationError(
            "FLOWER_UNAUTHENTICATED_API would let anyone stop jobs: remove it; Flower takes an API key as password"
        )


def apply(settings: Settings) -> Any:
    """Set Flower's options (one global object) and return them."""
    options = default_options
    options.address = settings.flower_host
    options.port = settings.flower_port
    options.url_prefix = settings.flower_url_prefix.strip("/")
    options.read_only = settings.flower_read_only
    options.tasks_columns = COLUMNS
    TASK_COLUMNS.update(LABELS)
    # With any value Flower requires a user. auth.py checks keys instead of this password, which is never used.
    options.basic_auth = [f"{USER}:{secrets.token_urlsafe(32)}"]
    options.max_tasks = 10_000
    # An idle worker answers in milliseconds; a page should not wait longer for a dead one.
    options.inspect_timeout = 1_000.0
    # Remove stopped workers from the list after an hour.
    options.purge_offline_workers = 3600
    return options


def cookie_secret(data_dir: Path) -> str:
    """Return the secret, the same at every start, so that open pages survive a restart; only its owner can read it."""
    path = data_dir / "flower_cookie_secret"
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
    except FileExistsError:
        pass
    secret = path.read_text().strip()
    if len(secret) < 32:
        raise ConfigurationError(f"{path} is damaged: delete it, and a new secret is created at the next start")
    return secret
