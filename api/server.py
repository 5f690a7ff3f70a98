"""`python -m api.server`: run the API under uvicorn. Port 0 picks a free one, which is printed.

On SIGTERM or Ctrl-C it accepts no new connections, completes running requests, ends event streams (their clients
reconnect with Last-Event-ID) and exits with 0.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys

import uvicorn

from api.app import create_app
from api.http.protocol import patient
from nightshift.errors import ConfigurationError
from shared import entrypoint, tracing
from shared.console import print_error, print_line
from shared.db.engine import make_engine
from shared.logging import configure_logging
from shared.settings import Settings, get_settings
from shared.storage import refuse_unusable

#: Time for running requests at shutdown (seconds).
GRACE_SECONDS = 10
#: Connections that the kernel queues while the process is busy.
_BACKLOG = 2_048


class Server(uvicorn.Server):
    """Ends event streams before uvicorn waits for open responses; a stream lasts as long as its job."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End event streams, then shut down."""
        self.config.app.state.service.watch.close()  # type: ignore[union-attr]
        await super().shutdown(sockets)


def make_server(settings: Settings) -> Server:
    """Return a server for the API of these settings."""
    engine = make_engine(settings.sql_url)
    config = uvicorn.Config(
        create_app(settings, engine),
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        backlog=_BACKLOG,
        server_header=False,
        http=patient(settings.request_seconds),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return Server(config)


def address_of(listening: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(settings: Settings) -> socket.socket:
    """Return a bound socket, so that the port is known before the server starts. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((settings.api_host, settings.api_port))
    listening.listen(_BACKLOG)  # early clients are queued, not refused
    listening.set_inheritable(True)
    return listening


def main() -> int:
    """Run the API until it is stopped; return the exit code."""
    argparse.ArgumentParser(
        prog="nightshift api", description="The HTTP API; settings say where it listens."
    ).parse_args()
    settings = get_settings()
    configure_logging(settings, "api")
    tracing.setup("api")
    try:
        refuse_unusable(settings)
        listening = listen(settings)
    except ConfigurationError as error:
        print_error(f"nightshift api: {error}")
        return 2
    except OSError as error:
        print_error(f"cannot listen on {settings.api_host}:{settings.api_port}: {error.strerror}")
        return 1
    # After its shutdown uvicorn raises the signal again for the previous handlers; exit with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with listening:
        print_line(f"api listening on {address_of(listening)}")
        make_server(settings).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    entrypoint.run("api", main)
