"""An app behind a real socket: what only a real server does (streams that stay open, shutting down)."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The app's base URL while the block lasts."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            app.state.service.watch.close()
            server.should_exit = True
            thread.join()


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """{id, event, data} of each server-sent event, as they come; {comment} of each comment."""
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
