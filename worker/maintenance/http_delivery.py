"""One webhook delivery attempt: a POST to a checked address, with one deadline and a bounded response.

The host name is resolved here, all of its addresses are checked, and the connection goes to one of them, so that DNS
cannot redirect it in between. Host header, SNI and certificate are those of the name. Redirects are not followed;
proxies from the environment are not used.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import httpcore

from shared.webhooks import url_policy
from shared.webhooks.deliveries import Answer

#: Most bytes read of a response body.
MAX_ANSWER = 10_000
#: Most characters kept of the body of an error response.
_EXCERPT = 200


class RefusedAddress(Exception):
    """The name resolves to an address that webhooks may not reach."""


def post(url: str, headers: Mapping[str, str], body: bytes, *, seconds: float, allow_private: bool) -> Answer:
    """Send a POST and return the answer. Never raises: every failure is an answer."""
    started = time.monotonic()
    deadline = started + seconds
    try:
        status, text = _exchange(url, headers, body, deadline, allow_private)
        error = None if 200 <= status < 300 else _describe_status(status, text)
    except Exception as failure:  # sockets, TLS, DNS, HTTP: all are handled alike
        status, error = None, _describe(failure, seconds)
    return Answer(status, error, round((time.monotonic() - started) * 1000, 1), gone=status == 410)


def _exchange(
    url: str, headers: Mapping[str, str], body: bytes, deadline: float, allow_private: bool
) -> tuple[int, str]:
    backend = PinnedBackend(deadline, allow_private)
    with (
        httpcore.ConnectionPool(ssl_context=_tls_for(url), network_backend=backend, max_connections=1) as pool,
        pool.stream("POST", url, headers=list(headers.items()), content=body) as response,
    ):
        if 200 <= response.status < 300:
            return response.status, ""
        return response.status, _beginning(response.iter_stream())


def _beginning(chunks: Iterable[bytes]) -> str:
    found = b""
    for chunk in chunks:
        found += chunk
        if len(found) >= MAX_ANSWER:
            break
    text = found[:MAX_ANSWER].decode("utf-8", "replace")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_EXCERPT]


def _describe_status(status: int, text: str) -> str:
    if 300 <= status < 400:
        return f"HTTP {status}: redirects are not followed; give the address it points to"
    return f"HTTP {status}: {text}" if text else f"HTTP {status}"


def _describe(failure: Exception, seconds: float) -> str:
    if isinstance(failure, httpcore.TimeoutException):
        return f"no answer within {seconds:g} s"
    if isinstance(failure, socket.gaierror):
        return f"the name cannot be resolved: {failure.strerror}"
    return (str(failure) or type(failure).__name__)[:400]


def _tls_for(url: str) -> Any:
    """Return the TLS context of a URL, or None without TLS.

    Loading certificates takes a tenth of a second of CPU, so that the context is reused for an hour.
    """
    if not url.lower().startswith("https:"):
        return None
    return _tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"), int(time.monotonic() // 3600))


@lru_cache(maxsize=1)
def _tls(*_changed: Any) -> Any:
    """Return a context with public certificates and those that this host trusts (SSL_CERT_FILE)."""
    context = httpcore.default_ssl_context()
    context.load_default_certs()
    return context


class PinnedBackend(httpcore.NetworkBackend):
    """Connects to an address that it resolved and checked, and applies the deadline to every operation."""

    def __init__(self, deadline: float, allow_private: bool) -> None:
        self._deadline, self._allow_private = deadline, allow_private
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        addresses = self.checked(host, port)
        for last, address in enumerate(addresses, start=1 - len(addresses)):
            try:
                stream = self._plain.connect_tcp(
                    address, port, remaining(self._deadline), local_address, socket_options
                )
                return DeadlineStream(stream, self._deadline)
            except httpcore.ConnectError:
                if last == 0:
                    raise
        raise socket.gaierror(socket.EAI_NONAME, "it has no address")

    def checked(self, host: str, port: int) -> list[str]:
        """Return the addresses of a name, all of which must be allowed.

        Raises RefusedAddress, socket.gaierror.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            reason = None if self._allow_private else url_policy.refused_address(ip_address(address))
            if reason:
                raise RefusedAddress(reason)
        return addresses


class DeadlineStream(httpcore.NetworkStream):
    """A stream whose operations all end by one deadline, even if the receiver sends single bytes slowly."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, remaining(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, remaining(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, remaining(self._deadline))
        return DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def remaining(deadline: float) -> float:
    """Return the seconds left. Raises httpcore.TimeoutException if there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left
