"""`python -m api.launcher.checks`: prepares the database, then tells the launcher when each part answers.

It is a process of its own that ends after the start: SQL, HTTP and Celery would keep fifty megabytes in the launcher,
which only watches its children from then on. It writes lines of JSON to stdout: `{"prepared": true}` once,
`{"answers": PART}` for each part, `{"loaded": WORKER, "frameworks": [...]}` for each worker, or `{"error": TEXT}`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import httpx

from api.launcher import redis_server
from api.launcher.database import Database
from nightshift.errors import NightshiftError
from shared.settings import Settings, get_settings

POLL_SECONDS = 0.05
#: Interval between two looks whether workers have loaded a framework (seconds).
LOADED_SECONDS = 1.0
#: Time-out of one ping of beat (seconds); it is repeated.
PING_SECONDS = 0.5

Check = Callable[[], bool]


def tell(**facts: object) -> None:
    """Write a line to the launcher."""
    os.write(1, f"{json.dumps(facts)}\n".encode())


def main(argv: Sequence[str]) -> int:
    """Prepare the database and check the parts until all have answered."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--api", required=True)
    parser.add_argument("--flower", required=True)
    parser.add_argument("--worker", action="append", default=[], help="its part and its name in SQL: PART=NAME")
    options = parser.parse_args(argv)
    workers = dict(one.split("=", 1) for one in options.worker)
    try:
        settings = get_settings()
        database = Database(settings)
        database.prepare(options.data_dir)
        tell(prepared=True)
        wait_for(checks(settings, database, options.api, options.flower, workers))
        if settings.preload and settings.warm_at_start:
            wait_until_loaded(database, list(workers.values()))
    except NightshiftError as error:
        tell(error=str(error))
        return 1
    return 0


def checks(
    settings: Settings, database: Database, api_url: str, flower_url: str, workers: dict[str, str]
) -> dict[str, Check]:
    """Return the check of each part."""
    return {
        "redis": partial(redis_server.answers, settings.redis_url.get_secret_value()),
        **{part: partial(database.worker_has_started, name) for part, name in workers.items()},
        "api": partial(_ok, f"{api_url}/readyz"),
        "flower": partial(_ok, f"{flower_url}/healthcheck"),
        "beat": partial(_beat_answers, settings),
    }


def wait_for(missing: dict[str, Check]) -> None:
    """Tell which parts answer, until all do."""
    while missing:
        for name in [name for name, answers in missing.items() if answers()]:
            tell(answers=name)
            del missing[name]
        time.sleep(POLL_SECONDS)


def wait_until_loaded(database: Database, workers: list[str]) -> None:
    """Tell what each worker has loaded, until each has loaded something."""
    while workers:
        for worker in list(workers):
            if frameworks := database.loaded_by(worker):
                tell(loaded=worker, frameworks=frameworks)
                workers.remove(worker)
        time.sleep(LOADED_SECONDS)


def _beat_answers(settings: Settings) -> bool:
    from shared.celery_app import answers  # slow to import; meanwhile the parts start

    return answers(settings, f"beat@{settings.host_name}", PING_SECONDS)


def _ok(url: str, timeout: float = 2.0) -> bool:
    """Return whether GET `url` answers 200. No proxy is used: the parts run on this machine."""
    try:
        return httpx.get(url, timeout=timeout, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
