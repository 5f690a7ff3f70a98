"""HTTP for the SDK, blocking and awaited. `Policy` decides; `Transport` and `AsyncTransport` send and do as it says."""

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

#: Seconds an event stream may be silent. The server sends a comment every few seconds; silence means it is gone.
STREAM_SILENCE = 45.0


class Transport:
    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retries: int = 4,
        timeout: float = ANSWER_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.policy = RetryPolicy(endpoint, retries, timeout)
        try:
            self._http = httpx.Client(**self.policy.settings(), transport=transport)
        except httpx.InvalidURL as error:
            raise self.policy.bad_url(error) from error

    def close(self) -> None:
        self._http.close()

    def run(self, steps: Call[T]) -> T:
        """The result of a call."""
        try:
            ask = next(steps)
            while True:
                ask = steps.send(self.ask(ask))
        except StopIteration as done:
            result: T = done.value
            return result

    def ask(self, ask: Request) -> Any:
        """The parsed answer."""
        attempt = 0
        while True:
            try:
                response = self._http.request(ask.method, ask.path, **ask.options)
            except httpx.RequestError as error:
                pause: float | None = self.policy.after_error(ask, attempt, error)
            else:
                pause = self.policy.after_answer(ask, attempt, response)
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
        """An open answer whose body is read piece by piece. Breaks in the middle raise `StreamDropped`."""
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
        try:
            self._http = httpx.AsyncClient(**self.policy.settings(), transport=transport)
        except httpx.InvalidURL as error:
            raise self.policy.bad_url(error) from error

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self, steps: Call[T]) -> T:
        try:
            ask = next(steps)
            while True:
                ask = steps.send(await self.ask(ask))
        except StopIteration as done:
            result: T = done.value
            return result

    async def ask(self, ask: Request) -> Any:
        attempt = 0
        while True:
            try:
                response = await self._http.request(ask.method, ask.path, **ask.options)
            except httpx.RequestError as error:
                pause: float | None = self.policy.after_error(ask, attempt, error)
            else:
                pause = self.policy.after_answer(ask, attempt, response)
            if pause is None:
                return self.policy.parsed(response)
            await asyncio.sleep(pause)
            attempt += 1

    @asynccontextmanager
    async def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, params: Any = None
    ) -> AsyncIterator[httpx.Response]:
        timeout = httpx.Timeout(STREAM_SILENCE, connect=CONNECT_TIMEOUT)
        try:
            async with self._http.stream("GET", path, headers=headers, params=params, timeout=timeout) as response:
                if response.is_error:
                    await response.aread()
                self.policy.raise_problem(response)
                yield response
        except httpx.RequestError as error:
            raise self.policy.stream_broken(error) from error
