"""HTTP of the clients, blocking and asynchronous. `RetryPolicy` decides what is retried and what a response means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import httpx

from nightshift.client.endpoint import Endpoint
from nightshift.client.requests import Call, Request
from nightshift.client.retry import ANSWER_TIMEOUT, CONNECT_TIMEOUT, RetryPolicy

T = TypeVar("T")

#: Read timeout of an event stream (seconds). The server sends a comment every few seconds, so silence means it is gone.
STREAM_SILENCE = 45.0


class Transport:
    """A blocking HTTP connection to the API."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retries: int = 4,
        timeout: float = ANSWER_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.policy = RetryPolicy(endpoint, retries, timeout)
        with self.policy.checked_url():
            self._http = httpx.Client(**self.policy.settings(), transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def run(self, call: Call[T]) -> T:
        """Send the requests of a call and return its result."""
        try:
            request = next(call)
            while True:
                request = call.send(self.send(request))
        except StopIteration as done:
            result: T = done.value
            return result

    def send(self, request: Request) -> Any:
        """Send a request, with retries, and return the parsed response."""
        attempt = 0
        while True:
            try:
                response = self._http.request(request.method, request.path, **request.options)
            except httpx.RequestError as error:
                pause: float | None = self.policy.after_error(request, attempt, error)
            else:
                pause = self.policy.after_answer(request, attempt, response)
            if pause is None:
                return self.policy.parsed(response)
            time.sleep(pause)
            attempt += 1

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Any = None,
        silence: float = STREAM_SILENCE,
    ) -> Iterator[httpx.Response]:
        """Open a response whose body is read in chunks. Raise `StreamDropped` if it breaks off."""
        timeout = httpx.Timeout(min(silence, STREAM_SILENCE), connect=CONNECT_TIMEOUT)
        try:
            with self._http.stream("GET", path, headers=headers, params=params, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                self.policy.raise_problem(response)
                yield response
        except httpx.RequestError as error:
            raise self.policy.stream_broken(error) from error


class AsyncTransport:
    """`Transport` for asyncio."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retries: int = 4,
        timeout: float = ANSWER_TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.policy = RetryPolicy(endpoint, retries, timeout)
        with self.policy.checked_url():
            self._http = httpx.AsyncClient(**self.policy.settings(), transport=transport)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def run(self, call: Call[T]) -> T:
        """Send the requests of a call and return its result."""
        try:
            request = next(call)
            while True:
                request = call.send(await self.send(request))
        except StopIteration as done:
            result: T = done.value
            return result

    async def send(self, request: Request) -> Any:
        """Send a request, with retries, and return the parsed response."""
        attempt = 0
        while True:
            try:
                response = await self._http.request(request.method, request.path, **request.options)
            except httpx.RequestError as error:
                pause: float | None = self.policy.after_error(request, attempt, error)
            else:
                pause = self.policy.after_answer(request, attempt, response)
            if pause is None:
                return self.policy.parsed(response)
            await asyncio.sleep(pause)
            attempt += 1

    @asynccontextmanager
    async def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, params: Any = None
    ) -> AsyncIterator[httpx.Response]:
        """Open a response whose body is read in chunks. Raise `StreamDropped` if it breaks off."""
        timeout = httpx.Timeout(STREAM_SILENCE, connect=CONNECT_TIMEOUT)
        try:
            async with self._http.stream("GET", path, headers=headers, params=params, timeout=timeout) as response:
                if response.is_error:
                    await response.aread()
                self.policy.raise_problem(response)
                yield response
        except httpx.RequestError as error:
            raise self.policy.stream_broken(error) from error
