"""Imports installed families and programs in a forkserver, each tried in a child first.

A forkserver must start no thread and open no device. A package that does either at import, or that fails or ends the
process, is left out: its jobs import it in their runner, which fails alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from nightshift.plugins import BUILTIN
from shared.fleet.gpus import VISIBLE
from shared.specs.families import FAMILIES, SETTING

#: Longest that a package may take to be imported.
PROBE_SECONDS = 60
_MAX_REASON = 300


def preload_families() -> dict[str, str]:
    """Look up the families, without installed ones that a forkserver must not import; return why, by name."""
    allowed = FAMILIES.allowed
    os.environ[SETTING] = BUILTIN
    FAMILIES.forget()
    own = list(FAMILIES.installed)
    refused = {name: why for name in allowed if name not in own and (why := tried(partial(_look_up, [*own, name])))}
    _look_up([*own, *(name for name in allowed if name not in refused)])
    return refused


def _look_up(names: Iterable[str]) -> None:
    os.environ[SETTING] = ",".join(dict.fromkeys(names))
    FAMILIES.forget()
    list(FAMILIES.installed)


def preload_modules(modules: Iterable[str]) -> dict[str, str]:
    """Import the modules that a forkserver may import; return why others were left out, by module."""
    refused = {}
    for module in modules:
        why = tried(partial(import_module, module))
        if why is None:
            import_module(module)
        else:
            refused[module] = why
    return refused


def tried(action: Callable[[], object]) -> str | None:
    """Return what is wrong with an action in a forkserver, by doing it in a child; None: nothing."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _try(action, write)
    os.close(write)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # before it is reaped, so that the pid cannot be reused yet
    _, status = os.waitpid(pid, 0)
    os.set_blocking(read, False)
    with open(read, "rb") as pipe:
        said = (pipe.read() or b"").decode(errors="replace")
    return said.removeprefix("-") or None if said else _ended(os.waitstatus_to_exitcode(status))


def _try(action: Callable[[], object], write: int) -> NoReturn:
    """In the child: do it and write what is wrong after a `-`."""
    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PROBE_SECONDS)
    why = None
    try:
        action()
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"
    os.write(write, f"-{why or harm() or ''}"[:_MAX_REASON].encode())
    os._exit(0)


def harm() -> str | None:
    """Return why a process like this one must not be forked: threads, children, an open GPU; or None."""
    threads = len(os.listdir("/proc/self/task")) - 1
    if threads:
        return f"its import starts {threads} thread{'s' * (threads > 1)}"
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        if children.read().strip():
            return "its import starts a process"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "its import opens a GPU"
    if torch is not None and os.environ.get(VISIBLE) and _spoils_forks(torch):
        return "its import asks CUDA for GPUs, after which no fork can use one"
    return None


def _spoils_forks(torch: Any) -> bool:
    """Return whether a fork of this process cannot use a GPU in torch."""
    pid = os.fork()
    if pid == 0:
        os._exit(int(torch.cuda._is_in_bad_fork()))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0


def _ended(code: int) -> str:
    if code == -signal.SIGALRM:
        return f"its import takes longer than {PROBE_SECONDS} s"
    return f"its import ends the process ({'signal' if code < 0 else 'exit code'} {abs(code)})"
