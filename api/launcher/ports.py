"""Ports on the loopback interface: choose a free one, or report that the wanted one is taken."""

from __future__ import annotations

import socket

from nightshift.errors import ConfigurationError

LOOPBACK = "127.0.0.1"


def choose_port(wanted: int, flag: str, host: str = LOOPBACK) -> int:
    """Return `wanted`, or a free port for 0. Raises ConfigurationError that names `flag` if it is taken."""
    with socket.socket() as probe:
        # Servers do the same: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            raise ConfigurationError(
                f"port {wanted} on {host} cannot be used ({error.strerror}): stop the process that uses it, "
                f"or choose another with {flag} ({flag} 0 picks a free one)"
            ) from None
        return int(probe.getsockname()[1])
