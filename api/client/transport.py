"""HTTP for the SDK: safe retries, and problem documents turned into the errors of `shared.errors`."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from api.client.locate import Endpoint
from api.client.stream import StreamDropped
from shared.errors import FieldError, NightshiftError, RequestError, Unauthorized, Unavailable

#: Seconds: to connect, and for an answer. Uploads wait longer, since the server reads the whole set before it answers.
CONNECT_TIMEOUT, ANSWER_TIMEOUT, UPLOAD_TIMEOUT = 5.0, 30.0, 3600.0
#: Seconds an event stream may be silent. The server sends a comment every few seconds; silence means it is gone.
STREAM_SILENCE = 45.0
#: Seconds before the first retry; doubles, with jitter, so that many clients do not come back together.
FIRST_PAUSE = 0.1

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
#: Answers of a server or a proxy on its way up or down.
PASSING = frozenset({502, 503, 504})


class ApiUnreachable(Unavailable):
    """Nothing answers at the API's address."""


class ServerError(NightshiftError):
    """An answer outside the contract: a 5xx, or something that is not a Nightshift API."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


_BY_STATUS: dict[int, type[RequestError]] = {kind.status: kind for kind in RequestError.__subclasses__()}


class Transport:
    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retries: int = 4,
        timeout: float = ANSWER_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.endpoint, self.retries = endpoint, retries
        headers = {"user-agent": "nightshift-client"}
        if endpoint.key:
            headers["authorization"] = _bearer(endpoint)
        try:
            self._http = httpx.Client(
                base_url=f"{endpoint.url}/v1/", headers=headers, transport=transport, follow_redirects=False,
                timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
            )  # fmt: skip
        except httpx.InvalidURL as error:
            raise ApiUnreachable(f"{endpoint.url!r} ({endpoint.url_from}) is not a URL: {error}") from error

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, *, safe: bool | None = None, **request: Any) -> Any:
        """The parsed answer. `safe`: sending twice does what sending once does (default: by method)."""
        response = self._send(method, path, method in IDEMPOTENT if safe is None else safe, request)
        try:
            return response.json()
        except ValueError as error:
            raise ServerError(response.status_code, self._not_ours(response)) from error

    def ask(self, path: str) -> None:
        """POST without a body; whatever the answer holds is dropped."""
        self._send("POST", path, False, {})

    def delete(self, path: str) -> None:
        self._send("DELETE", path, True, {})

    @contextmanager
    def stream(self, path: str, *, headers: dict[str, str] | None = None) -> Iterator[httpx.Response]:
        """An open answer whose body is read piece by piece. Breaks in the middle raise `StreamDropped`."""
        timeout = httpx.Timeout(STREAM_SILENCE, connect=CONNECT_TIMEOUT)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                if response.status_code in PASSING:
                    raise StreamDropped(f"answered {response.status_code} {response.reason_phrase}")
                self._raise(response)
                yield response
        except httpx.ConnectError as error:
            raise self._unreachable(error) from error
        except httpx.RequestError as error:
            raise StreamDropped(str(error) or type(error).__name__) from error

    def _send(self, method: str, path: str, safe: bool, request: dict[str, Any]) -> httpx.Response:
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                response = self._http.request(method, path, **request)
            except httpx.UnsupportedProtocol as error:
                raise self._unreachable(error) from error
            except httpx.RequestError as error:
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if last or not (safe or never_sent):
                    raise self._unreachable(error) from error
            else:
                if last or not safe or response.status_code not in PASSING:
                    self._raise(response)
                    return response
            time.sleep(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    def _raise(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        problem = _problem(response)
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

    def _unreachable(self, error: Exception) -> ApiUnreachable:
        return ApiUnreachable(
            f"The Nightshift API at {self.endpoint.url} ({self.endpoint.url_from}) does not answer: "
            f"{str(error) or type(error).__name__}. Start it with `nightshift up`, or point to it with NIGHTSHIFT_API_URL."
        )

    def _not_ours(self, response: httpx.Response) -> str:
        return (
            f"{self.endpoint.url} answered {response.status_code} {response.reason_phrase} without a problem document; "
            "is it a Nightshift API? Its log says more."
        )


_HOW_TO_GET_ONE = (
    "Where the stack runs, `nightshift keys create NAME` makes a key; give it as NIGHTSHIFT_API_KEY, or point "
    "NIGHTSHIFT_DATA_DIR to the stack's data folder."
)


def _bearer(endpoint: Endpoint) -> str:
    key = endpoint.key or ""
    if not (key.isascii() and key.isprintable()):
        raise Unauthorized(f"The key holds characters that no key has. {endpoint.key_from}")
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
