"""uvicorn's HTTP protocol with time-outs for incomplete requests, and problem documents for invalid HTTP.

uvicorn waits without limit for the rest of a head or a body. Here a head has a deadline, counted from its first byte or
from the opening of the connection; a body may take any time as long as bytes arrive.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from api.errors import MEDIA_TYPE

#: Largest head (bytes): request line and headers.
MAX_HEAD = 64_000
_LATE = "The request is incomplete: no data for {seconds:g} s. Send it again."
_LONG = f"The head of a request may have at most {MAX_HEAD} bytes."
_BROKEN = "Not a valid HTTP/1.1 request, for example a control character in a header or a wrong request line."


class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """One connection."""

    #: Time-out for a head, and for silence within a body (seconds); see `patient`.
    seconds: ClassVar[float] = 30.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the timer."""
        super().connection_made(transport)
        self._last_data = self.loop.time()
        self._head_since: float | None = self._last_data
        self._head_bytes = 0
        self._timer = self.loop.call_later(self.seconds, self._check_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Measure the head, and refuse one that is too large."""
        self._last_data = self.loop.time()
        if self._between_requests():
            self._head_since = self._last_data if self._head_since is None else self._head_since
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._between_requests():
            self._head_since, self._head_bytes = None, 0
        elif self._head_bytes > MAX_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _LONG)

    def send_400_response(self, msg: str) -> None:
        """Answer a request that uvicorn's parser rejects."""
        self._refuse(HTTPStatus.BAD_REQUEST, _BROKEN)

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _silent_since(self) -> float | None:
        """Return the time since which data is expected from the client; None if none is expected."""
        if self._between_requests():
            return self._head_since  # None: an idle keep-alive connection, which uvicorn ends
        return self._last_data if self.cycle.more_body and not self.flow.read_paused else None

    def _check_timeout(self) -> None:
        since = self._silent_since()
        left = self.seconds if since is None else since + self.seconds - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._check_timeout)
        elif self._between_requests() and not self._head_bytes:
            self.transport.close()  # no byte of a request was received
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, _LATE.format(seconds=self.seconds))

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Send a problem, unless a response has begun, and close; the application sees a disconnect."""
        if self.transport.is_closing():
            return
        if self._between_requests() or not self.cycle.response_started:
            self.transport.write(_answer(status, detail))
        self.transport.close()


def _answer(status: HTTPStatus, detail: str) -> bytes:
    slug = status.phrase.lower().replace(" ", "-")
    problem = {"type": f"urn:nightshift:problem:{slug}", "title": status.phrase, "status": status.value}
    body = json.dumps({**problem, "detail": detail, "instance": "", "errors": []}).encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"content-type: {MEDIA_TYPE}",
        f"content-length: {len(body)}",
        "x-content-type-options: nosniff",
        "connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def patient(seconds: float) -> Any:
    """Return the protocol with this time-out, for `uvicorn.Config(http=…)`."""
    return type("Protocol", (Protocol,), {"seconds": seconds})
