"""Headers and timeouts of requests, the decision to retry, and the errors of responses; without I/O.

Problem documents (RFC 9457) become the errors of `nightshift.errors`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from nightshift.client.endpoint import Endpoint
from nightshift.client.event_stream import StreamDropped
from nightshift.client.requests import Request
from nightshift.errors import FieldError, NightshiftError, RequestError, Unauthorized, Unavailable

#: Timeouts to connect and to respond (seconds). Uploads have a longer one (`requests.UPLOAD_TIMEOUT`).
CONNECT_TIMEOUT, ANSWER_TIMEOUT = 5.0, 30.0
#: Seconds before the first retry, doubled for each further one; jitter keeps many clients from retrying at once.
FIRST_PAUSE = 0.1

#: Status codes of a server or proxy that is starting or stopping.
PASSING = frozenset({502, 503, 504})


class ApiUnreachable(Unavailable):
    """The API does not answer at its URL."""


class ServerError(NightshiftError):
    """An unexpected response: a 5xx status, or one that does not come from a Nightshift API."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


_BY_STATUS: dict[int, type[RequestError]] = {kind.status: kind for kind in RequestError.__subclasses__()}


class RetryPolicy:
    """Headers and timeouts of requests, the decision to retry, and the errors of responses."""

    def __init__(self, endpoint: Endpoint, retries: int, timeout: float) -> None:
        self.endpoint, self._retries, self._timeout = endpoint, retries, timeout

    def settings(self) -> dict[str, Any]:
        """Return the keyword arguments of an httpx client."""
        headers = {"user-agent": "nightshift-client"}
        if self.endpoint.key:
            headers["authorization"] = _bearer(self.endpoint)
        timeout = httpx.Timeout(self._timeout, connect=min(self._timeout, CONNECT_TIMEOUT))
        url = f"{self.endpoint.url}/v1/"
        return {"base_url": url, "headers": headers, "follow_redirects": False, "timeout": timeout}

    @contextmanager
    def checked_url(self) -> Iterator[None]:
        """Raise `ApiUnreachable` if httpx rejects the URL."""
        try:
            yield
        except httpx.InvalidURL as error:
            where = f"{self.endpoint.url!r} ({self.endpoint.url_from})"
            raise ApiUnreachable(f"{where} is not a URL: {error}") from error

    def after_error(self, request: Request, attempt: int, error: httpx.RequestError) -> float:
        """Return the seconds before a retry. Raise `ApiUnreachable` if a retry is unsafe or useless."""
        never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        hopeless = isinstance(error, httpx.UnsupportedProtocol) or attempt >= self._retries
        if hopeless or not (request.safe or never_sent):
            raise self.unreachable(error) from error
        return _pause(attempt)

    def after_answer(self, request: Request, attempt: int, response: httpx.Response) -> float | None:
        """Return the seconds before a retry, or None if the response is final. Raise its error, if it is one."""
        if response.status_code in PASSING and request.safe and attempt < self._retries:
            return _pause(attempt)
        self.raise_problem(response)
        return None

    def parsed(self, response: httpx.Response) -> Any:
        """Return the JSON of a response; None if its body is empty. Raises `ServerError`."""
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise ServerError(response.status_code, self._not_ours(response)) from error

    def raise_problem(self, response: httpx.Response) -> None:
        """Raise the error of a response, unless it is a success."""
        if response.is_success:
            return
        problem = _problem(response)
        if problem is None and response.status_code in PASSING:
            raise Unavailable(
                f"{self.endpoint.url} answered {response.status_code} {response.reason_phrase}: "
                "the server behind this address does not answer."
            )
        if problem is None:
            raise ServerError(response.status_code, self._not_ours(response))
        detail = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
        if response.status_code == 503:
            raise Unavailable(detail)
        kind = _BY_STATUS.get(response.status_code)
        if kind is None:
            raise ServerError(response.status_code, detail)
        if kind is Unauthorized:
            detail = f"{detail} {self.endpoint.key_from} {_HOW_TO_GET_ONE}"
        raise kind(detail, _field_errors(problem))

    def unreachable(self, error: Exception) -> ApiUnreachable:
        """Return the error of a connection that failed."""
        return ApiUnreachable(
            f"The Nightshift API at {self.endpoint.url} ({self.endpoint.url_from}) does not answer: "
            f"{str(error) or type(error).__name__}. "
            "Start it with `nightshift up`, or set NIGHTSHIFT_API_URL to its address."
        )

    def stream_broken(self, error: httpx.RequestError) -> Exception:
        """Return the error of a stream that failed: `ApiUnreachable` if it never connected, else `StreamDropped`."""
        if isinstance(error, httpx.ConnectError):
            return self.unreachable(error)
        return StreamDropped(str(error) or type(error).__name__)

    def _not_ours(self, response: httpx.Response) -> str:
        return (
            f"{self.endpoint.url} answered {response.status_code} {response.reason_phrase} without a problem document; "
            "is it a Nightshift API? See its log."
        )


def _pause(attempt: int) -> float:
    return float(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))


_HOW_TO_GET_ONE = (
    "Create a key with `nightshift keys create NAME` on the server and set NIGHTSHIFT_API_KEY to it, or set "
    "NIGHTSHIFT_DATA_DIR to the server's data folder."
)


def _bearer(endpoint: Endpoint) -> str:
    key = endpoint.key or ""
    if not (key.isascii() and key.isprintable()):
        raise Unauthorized(f"The key contains characters that are not allowed in a key. {endpoint.key_from}")
    return f"Bearer {key}"


def _problem(response: httpx.Response) -> dict[str, Any] | None:
    if "json" not in response.headers.get("content-type", ""):
        return None
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _field_errors(problem: dict[str, Any]) -> list[FieldError]:
    errors = problem.get("errors")
    if not isinstance(errors, list):
        return []
    return [FieldError(tuple(e.get("loc", ())), str(e.get("msg", ""))) for e in errors if isinstance(e, dict)]
