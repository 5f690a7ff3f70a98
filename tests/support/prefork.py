"""Forks children in advance; each becomes a `python -m …` that this process starts later through `subprocess`.

A new interpreter that imports the API, a worker or a framework costs seconds of CPU; a preforked child has the modules
of the warm process that it comes from (`tests.support.warm`). The code under test still calls `subprocess.Popen` and
gets a child with the command line, environment, descriptors, umask, session and parent-death signal that it asked for.
Other programs, and modules when no child is left, start as usual.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import importlib
import inspect
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from api.launcher.process import die_with
from shared import console, failpoints
from shared.settings import get_settings
from shared.specs.families import FAMILIES

#: Children of a worker: a forkserver for each framework, and one more for a test that kills one.
WORKER_CHILDREN = 3
_PR_SET_PDEATHSIG = 1
_MAX_REQUEST = 200_000
#: Received descriptors are moved here while those below are closed and set.
_FIRST_MOVED = 512
_EXECUTE_CHILD = cast(Any, subprocess.Popen)._execute_child


@dataclass(frozen=True)
class StartRequest:
    """What a child becomes. The descriptors of its standard streams come with it, then those to keep."""

    argv: list[str]
    environment: dict[str, str]
    umask: int
    new_session: bool
    dies_with: int | None
    kept: list[int]


@dataclass(frozen=True)
class Preforked:
    """A waiting child."""

    pid: int
    control: socket.socket

    def send(self, request: StartRequest, streams: list[int]) -> None:
        with self.control:
            socket.send_fds(self.control, [pickle.dumps(request)], [*streams, *request.kept])


def prefork(count: int) -> None:
    """Fork children and let `subprocess` use them. Call it before there are threads or connections."""
    waiting = [_fork() for _ in range(count)]
    names = inspect.signature(_EXECUTE_CHILD)

    def execute_child(popen: Any, *arguments: Any) -> None:
        asked = names.bind(popen, *arguments).arguments
        if waiting and list(asked["args"])[:2] == [sys.executable, "-m"]:
            _hand_over(popen, asked, waiting.pop(0))
        else:
            _EXECUTE_CHILD(popen, *arguments)

    cast(Any, subprocess.Popen)._execute_child = execute_child


def _fork() -> Preforked:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        ours.close()
        _wait_for_request(theirs, parent)
    theirs.close()
    return Preforked(pid, ours)


def _hand_over(popen: Any, asked: Mapping[str, Any], child: Preforked) -> None:
    """Do what `Popen._execute_child` does, with a waiting child. `asked`: its arguments by name."""
    environment = os.environ if asked["env"] is None else asked["env"]
    request = StartRequest(
        argv=list(asked["args"]),
        environment=dict(environment),
        umask=_umask(),
        new_session=asked["start_new_session"],
        dies_with=_parent_of(asked["preexec_fn"]),
        kept=list(asked["pass_fds"]),
    )
    pipes = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
    child.send(request, [standard if pipe == -1 else pipe for standard, pipe in enumerate(pipes)])
    popen.pid, popen._child_created = child.pid, True
    popen._close_pipe_fds(
        *(asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
    )


def _umask() -> int:
    """Return this process's umask without changing it, as `os.umask` would."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask:")]
    return int(line.split()[1], 8)


def _parent_of(preexec_fn: Any) -> int | None:
    """Return what `die_with` was given: no other `preexec_fn` is in use."""
    return None if preexec_fn is None else int(inspect.getclosurevars(preexec_fn).nonlocals["parent"])


# -- in the child ---------------------------------------------------------------------------------


def _wait_for_request(control: socket.socket, parent: int) -> NoReturn:
    code = 70
    try:
        _set_parent_death_signal(signal.SIGKILL)
        with control:
            data, descriptors, _, _ = socket.recv_fds(control, _MAX_REQUEST, 16)
        code = _become(pickle.loads(data), descriptors) if data and os.getppid() == parent else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _become(request: StartRequest, descriptors: list[int]) -> int:
    """Do what `subprocess` does before exec, then run the module. Returns the exit code."""
    _keep_only(dict(zip([0, 1, 2, *request.kept], descriptors, strict=True)))
    os.umask(request.umask)
    if request.new_session:
        os.setsid()
    _set_parent_death_signal(0)
    if request.dies_with is not None:
        die_with(request.dies_with)()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run_module(request.argv, request.environment, WORKER_CHILDREN if "worker.main" in request.argv else 0)


def _keep_only(wanted: Mapping[int, int]) -> None:
    """Leave no descriptors open but these (number: present descriptor)."""
    moved = {number: fcntl.fcntl(descriptor, fcntl.F_DUPFD, _FIRST_MOVED) for number, descriptor in wanted.items()}
    os.closerange(0, _FIRST_MOVED)
    for number, descriptor in moved.items():
        os.dup2(descriptor, number)
    os.closerange(_FIRST_MOVED, 65_536)


def _set_parent_death_signal(number: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


# -- run a module in a forked process ---------------------------------------------------------------------------


def run_module(argv: list[str], environment: Mapping[str, str], children: int = 0) -> int:
    """Run `[python, "-m", module, *arguments]` as a new interpreter would, and return its exit code.

    `children`: how many modules that it starts are preforked.
    """
    module = argv[2]
    os.environ.clear()
    os.environ.update(environment)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]
    sys.orig_argv, sys.argv = argv, argv[2:]
    _show_in_proc(argv, environment)
    prefork(children)
    folders = list(filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)))
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    _run_sitecustomize(folders)
    get_settings.cache_clear()  # the warm process has read its own, to look up the families
    FAMILIES.forget()
    importlib.reload(console)  # console and failpoints read the environment when they are imported
    failpoints.arm(environment.get("NIGHTSHIFT_FAILPOINT", ""))
    sys.modules.pop(module, None)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()  # `multiprocessing` does not run them
    return 0


def _run_sitecustomize(folders: Sequence[str]) -> None:
    for folder in folders:
        if (custom := Path(folder, "sitecustomize.py")).exists():
            runpy.run_path(str(custom))


def _show_in_proc(argv: list[str], environment: Mapping[str, str]) -> None:
    """Overwrite the command line and environment in /proc, which are the first process's; cut to their length."""
    places = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    line_begin, line_end, environment_begin, environment_end = map(int, places[45:49])
    _overwrite(argv, line_begin, line_end)
    _overwrite([f"{name}={value}" for name, value in environment.items()], environment_begin, environment_end)


def _overwrite(words: list[str], begin: int, end: int) -> None:
    text = os.fsencode("\0".join(words))[: end - begin - 1]
    ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)
