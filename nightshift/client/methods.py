"""Methods that both clients share: each runs a call.

One function serves both, because `Transport.run` returns the result of a call and `AsyncTransport.run` an awaitable of
it. The protocols `Sent` and `SentJob` tell type checkers and editors which of the two a method returns.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from nightshift.client.requests import Call
from nightshift.client.transport import AsyncTransport, Transport
from nightshift.client.types import JobData

if TYPE_CHECKING:
    from nightshift.client.async_client import AsyncJob
    from nightshift.client.client import Job

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Blocking:
    """Base of the classes whose methods block."""

    _transport: Transport


class Awaited:
    """Base of the classes whose methods are awaited."""

    _transport: AsyncTransport


class Sent(Protocol[P, T_co]):
    """A method that returns the result of a call."""

    @overload
    def __get__(self, owner: Blocking, kind: Any = None) -> Callable[P, T_co]: ...
    @overload
    def __get__(self, owner: Awaited, kind: Any = None) -> Callable[P, Coroutine[Any, Any, T_co]]: ...
    @overload
    def __get__(self, owner: None, kind: Any = None) -> Callable[..., Any]: ...


class SentJob(Protocol[P]):
    """A method that returns the job of a call."""

    @overload
    def __get__(self, owner: Blocking, kind: Any = None) -> Callable[P, Job]: ...
    @overload
    def __get__(self, owner: Awaited, kind: Any = None) -> Callable[P, Coroutine[Any, Any, AsyncJob]]: ...
    @overload
    def __get__(self, owner: None, kind: Any = None) -> Callable[..., Any]: ...


def _method(call: Callable[..., Any], run: Callable[..., Any], *, hidden: int = 0) -> Any:
    """Return `run` with the documentation of a call, and its parameters except for the first `hidden` ones."""
    method: Any = functools.wraps(call)(run)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = inspect.Signature([itself, *list(inspect.signature(call).parameters.values())[hidden:]])
    return method


def sent(call: Callable[P, Call[T]]) -> Sent[P, T]:
    """Return a client's method that runs a call."""

    def run(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self._transport.run(call(*args, **kwargs))

    return cast("Sent[P, T]", _method(call, run))


def new_job(call: Callable[P, Call[JobData]]) -> SentJob[P]:
    """Return a client's method that runs a call and returns the job that it answers."""

    def run(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self._transport.run(self._new_job(call(*args, **kwargs)))

    return cast("SentJob[P]", _method(call, run))


def of_job(call: Callable[Concatenate[str, P], Call[T]]) -> Sent[P, T]:
    """Return a job's method that runs a call whose first argument is the job's id."""

    def run(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self._transport.run(call(self.id, *args, **kwargs))

    return cast("Sent[P, T]", _method(call, run, hidden=1))


def updating(call: Callable[Concatenate[str, P], Call[JobData]]) -> SentJob[P]:
    """Return a job's method that runs such a call, stores the data that it answers, and returns the job."""

    def run(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self._transport.run(self._updated(call(self.id, *args, **kwargs)))

    return cast("SentJob[P]", _method(call, run, hidden=1))
