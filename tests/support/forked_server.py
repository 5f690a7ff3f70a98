"""A runners' forkserver that is forked from a process which has imported what it needs, instead of started anew."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import NoReturn
from unittest import mock

from tests.support.takeover import take_over
from worker.runners import forkserver, forkserver_client


class ForkedServer:
    """Stands for the `subprocess.Popen` of a forkserver."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], pass_fds: Sequence[int], **_: object) -> None:
        output, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _serve(pass_fds[0], theirs, command[command.index("worker.runners.forkserver") + 2 :], env)
        os.close(theirs)
        self.stdout = open(output, "rb")  # noqa: SIM115 - read to its end by a thread of the client

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _serve(control: int, output: int, modules: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    try:
        os.setsid()
        keep = os.dup(control), os.dup(output)
        for standard, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), keep[1], keep[1], keep[0])):
            os.dup2(descriptor, standard)
        os.closerange(4, 65_536)  # a pipe that is open here would hide the worker's death
        os.environ.clear()
        os.environ.update(env)
        take_over("tests.support.probe")
        forkserver.main(["3", *modules])
    finally:
        os._exit(0)


@contextmanager
def forked() -> Iterator[None]:
    """Let forkservers that are started here be forked. This process must have one thread and nothing open yet."""
    replaced = SimpleNamespace(**{**vars(subprocess), "Popen": ForkedServer})
    with mock.patch.object(forkserver_client, "subprocess", replaced):
        yield
