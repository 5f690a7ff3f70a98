"""What Flower is started with, and what is refused.

Flower 2.2 as it comes binds every interface, shows its pages to anybody and makes a new cookie secret at each start.
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
#: What the table of tasks shows; truth.py fills the first three with what SQL knows of the attempt.
COLUMNS = "args,kwargs,result,state,received,runtime,worker,uuid"
LABELS = {"args": "Job", "kwargs": "Work", "result": "Progress", "uuid": "Task"}


def refuse_unsafe(environ: Mapping[str, str]) -> None:
    """FLOWER_* variables are Flower's own command line's, which is not used; one of them would open the API to all."""
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
    # Any value makes Flower treat itself as protected; who may enter is decided in auth.py. This one opens nothing.
    options.basic_auth = [f"{USER}:{secrets.token_urlsafe(32)}"]
    options.max_tasks = 10_000
    # An idle worker answers in milliseconds; a page should not wait longer for one that is gone.
    options.inspect_timeout = 1_000.0
    # A worker that said goodbye is not listed for ever.
    options.purge_offline_workers = 3600
    return options


def cookie_secret(data_dir: Path) -> str:
    """The same at every start, so that a page that is open survives a restart. Kept readable by its owner only."""
    path = data_dir / "flower_cookie_secret"
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
    except FileExistsError:
        pass
    secret = path.read_text().strip()
    if len(secret) < 32:
        raise ConfigurationError(f"{path} is damaged: delete it, and a new secret is made at the next start")
    return secret
