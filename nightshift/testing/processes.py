"""Processes that are forked from a server that has imported their modules, which saves seconds of CPU each."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver, popen_forkserver
from typing import Any
from unittest import mock

#: Imported last by each server.
FROZEN = "nightshift.testing.frozen"


@dataclass(frozen=True)
class Server:
    """A process to fork from: the modules that it imports first, and variables of its environment."""

    modules: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


@cache
def running(server: Server) -> forkserver.ForkServer:
    """Return the running server; `multiprocessing` itself has only one. It ends with this process."""
    started = forkserver.ForkServer()
    started.set_forkserver_preload([*server.modules, FROZEN])
    with mock.patch.dict(os.environ, dict(server.environment)):
        started.ensure_running()
    return started


class _Popen(popen_forkserver.Popen):
    _lock = threading.Lock()

    def _launch(self, process_obj: Any) -> None:
        connect = running(process_obj.server).connect_to_new_process
        with self._lock, mock.patch.object(forkserver, "connect_to_new_process", connect):
            super()._launch(process_obj)  # type: ignore[misc]


class Process(multiprocessing.context.ForkServerProcess):
    """A `multiprocessing.Process` that is forked from a server."""

    def __init__(self, server: Server, *, target: Callable[..., None], args: tuple[Any, ...], name: str = "") -> None:
        super().__init__(target=target, args=args, name=name or None)
        self.server = server

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _Popen(process_obj)
