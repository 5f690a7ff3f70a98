"""An app behind a real socket, for tests of open streams and of shutdown."""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from api.http.protocol import patient
from tests.support import warm
from tests.support.stack import eventually

_numbers = itertools.count(1)


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve the app as in production and yield its base URL."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # so that connections before the server's start wait and are not refused
        http = patient(app.state.service.settings.request_seconds)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, http=http, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            app.state.service.watch.close()
            server.should_exit = True
            thread.join()


@contextmanager
def api_process(database_url: str, folder: Path, **variables: str) -> Iterator[tuple[warm.WarmProcess, str]]:
    """Run `python -m api.server` on a free port without a broker, and yield (process, URL)."""
    settings = {
        "NIGHTSHIFT_DATABASE_URL": database_url,
        "NIGHTSHIFT_DATA_DIR": str(folder / "data"),
        "NIGHTSHIFT_REDIS_URL": "redis://127.0.0.1:1/0",
        "NIGHTSHIFT_API_PORT": "0",
        "NIGHTSHIFT_LOG_FORMAT": "json",
    }
    log = folder / f"api-{next(_numbers)}.log"
    process = warm.start("api.server", [], os.environ | settings | variables, log, errors=log.with_suffix(".errors"))
    try:
        line = json.loads(eventually("the API listens", lambda: _first_line(log, process)))
        assert line["event"].startswith("api listening on http://127.0.0.1:"), line
        yield process, line["event"].split()[-1]
    finally:
        process.kill()
        process.wait()


def _first_line(log: Path, process: warm.WarmProcess) -> str:
    text = log.read_text() if log.exists() else ""
    assert process.poll() is None or text, log.with_suffix(".errors").read_text()
    return text.partition("\n")[0] if "\n" in text else ""


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """Yield {id, event, data} of each server-sent event, and {comment} of each comment."""
    fields: dict[str, Any] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if line.startswith(":"):
            yield {"comment": value}
        elif line:
            fields[name] = json.loads(value) if name == "data" else value
        else:
            if "data" in fields:
                yield fields
            fields = {}
