"""A warm process that forks one runner per attempt: `python -m worker.runners.forkserver FD MODULE… [-- MODULE…]`.

It has imported the frameworks but opened no device and started no thread, so that a fork is safe and takes
milliseconds. Its environment was sanitized before exec, so no runner ever holds a secret. As the runners' parent it
gets exit status and peak memory from wait4; as a subreaper it becomes the parent of a dead runner's children, which it
kills. So is each runner: orphans below a living one stay there, and only those of dead ones come here.

On the control socket (SOCK_SEQPACKET, JSON): {"fork": key, …options} with descriptors (runner's socket, stdout, stderr)
→ {"forked": key, "pid"}; {"signal": key, "number"} → to the runner's process group, unless it was reaped; when a runner
ends → {"exited": key, "code", "signal", "peak_memory_bytes"}. At end of file everything is killed. Before the first of
them it sends {"ready": pid, …}, or {"failed": reason} and exits.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_MESSAGE = 65_536
#: Most characters of the reason why an import failed.
MAX_REASON = 300
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
#: oom_score_adj of runners (0 … 1000): the OOM killer picks a runner before its worker.
_OOM_SCORE = 500


@dataclass
class Child:
    """A forked runner."""

    key: str
    pid: int


class ForkServer:
    """Serves the control socket and reaps runners."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, Child] = {}

    def serve(self, ready: dict[str, Any]) -> None:
        """Serve until the control socket is closed."""
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ, self._on_message)
        selector.register(wake_read, selectors.EVENT_READ, lambda: self._on_child(wake_read))
        self._send(ready)
        try:
            while True:
                for key, _ in selector.select():
                    key.data()
        except (EOFError, BrokenPipeError, ConnectionError):
            pass
        finally:
            self._kill_everything()

    # -- requests of the worker -------------------------------------------------------------------

    def _on_message(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, 3)
        if not data:
            raise EOFError
        message = json.loads(data)
        if "fork" in message:
            self._fork(message, descriptors)
        elif "signal" in message:
            self._signal(message["signal"], message["number"])

    def _fork(self, message: dict[str, Any], descriptors: list[int]) -> None:
        threads = len(os.listdir("/proc/self/task"))
        if threads != 1:  # in the child, a lock that another thread holds would never be released
            self._send({"refused": message["fork"], "why": f"the forkserver runs {threads} threads"})
            _close(descriptors)
            return
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_runner(parent, descriptors, message)
        _close(descriptors)
        self._children[pid] = Child(message["fork"], pid)
        self._send({"forked": message["fork"], "pid": pid})

    def _signal(self, key: str, number: int) -> None:
        for child in self._children.values():
            if child.key == key:
                try:
                    os.killpg(child.pid, number)
                except ProcessLookupError:  # it has no group yet; it is not reaped, so the pid is still its own
                    os.kill(child.pid, number)

    # -- exits of the children --------------------------------------------------------------------

    def _on_child(self, wake: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            wake.recv(4096)
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            child = self._children.pop(ended.si_pid, None)
            if child is None:
                os.waitpid(ended.si_pid, 0)
            else:
                self._reap(child)

    def _reap(self, child: Child) -> None:
        """Report the exit only after all its descendants are gone, so that their memory is free by then."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # before it is reaped, so that the pid cannot be reused yet
        _, status, usage = os.wait4(child.pid, 0)
        _kill_orphans(self._children)
        code = os.waitstatus_to_exitcode(status)
        self._send(
            {
                "exited": child.key,
                "code": code if code >= 0 else None,
                "signal": -code if code < 0 else None,
                "peak_memory_bytes": usage.ru_maxrss * 1024,
            }
        )

    def _kill_everything(self) -> None:
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        _kill_orphans()

    def _send(self, message: dict[str, Any]) -> None:
        self._control.send(json.dumps(message).encode())


# -- start of a runner ----------------------------------------------------------------------------


def _become_runner(parent: int, descriptors: list[int], options: dict[str, Any]) -> NoReturn:
    """In the child: cut all ties to the forkserver, then run. Never returns."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _die_with(parent)
        sock, out, err = (fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in descriptors)
        os.dup2(out, 1)
        os.dup2(err, 2)
        keep = os.dup2(sock, 3)
        os.closerange(4, 65_536)
        _limit(options)
        from worker.runners import runner

        runner.main(socket.socket(fileno=keep), options)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(70)


def _die_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the prctl
        os._exit(70)


def _limit(limits: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = limits.get("memory_limit_bytes")
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(str(_OOM_SCORE))


def _prctl(option: int, value: int) -> None:
    _LIBC.prctl(option, value, 0, 0, 0)


_LIBC = ctypes.CDLL(None, use_errno=True)

# -- orphans --------------------------------------------------------------------------------------


def _kill_orphans(living: Collection[int] = ()) -> None:
    """Kill all children but living runners, generation after generation.

    A killed process's children become ours (subreaper), so this ends only when the whole tree is gone. Processes stuck
    in the kernel are waited for no longer than a second; SIGKILL stays pending.
    """
    give_up = time.monotonic() + 1.0
    while time.monotonic() < give_up:
        orphans = [pid for pid in _my_children() if pid not in living]
        if not orphans and (living or _is_childless()):
            return
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # One by one: the exit of a living runner is reaped, and reported, elsewhere.
        if not sum(map(_is_reaped, orphans)):
            time.sleep(0.001)


def _is_childless() -> bool:
    """Return whether there is no child at all; a list of them may leave one out that changes meanwhile."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _is_reaped(pid: int) -> bool:
    """Reap a child if it has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _my_children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        return [int(pid) for pid in children.read().split()]


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


# -- start ----------------------------------------------------------------------------------------


def preload(modules: list[str], plugins: list[str] | None) -> dict[str, str]:
    """Import what every runner needs, then installed packages; return why some of those were left out.

    Raises what an import raises: a module that was imported by half would break runners in other places.
    """
    gc.disable()  # what modules are made of is never garbage
    for module in modules:
        importlib.import_module(module)
    gc.enable()
    left_out = preload_plugins(plugins)
    fill_caches()
    return left_out


def split(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    """Return the modules before and after `--`; the second is None without it."""
    if "--" not in arguments:
        return arguments, None
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def preload_plugins(modules: list[str] | None) -> dict[str, str]:
    """Import installed families and programs; return why some were left out. None: import none."""
    if modules is None:
        return {}
    from worker.runners.plugin_preload import preload_families, preload_modules

    return preload_families() | preload_modules(modules)


def fill_caches() -> None:
    """Fill the caches of evaluation and figures, if they were imported; otherwise each runner does."""
    if (caches := sys.modules.get("worker.training.caches")) is not None:
        caches.fill()


def main(argv: list[str]) -> None:
    """Run the forkserver until its control socket is closed."""
    control = socket.socket(fileno=int(argv[0]))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable()  # a runner killed by a fatal signal prints its stack on stderr
    started = time.monotonic()
    try:
        left_out = preload(*split(argv[1:]))
    except Exception as error:
        traceback.print_exc()
        control.send(json.dumps({"failed": f"{type(error).__name__}: {error}"[:MAX_REASON]}).encode())
        os._exit(1)  # whatever the imports have begun
    gc.collect()
    gc.freeze()  # a collection in a runner would otherwise copy every shared page
    ready = {"ready": os.getpid(), "seconds": round(time.monotonic() - started, 3), "missing": left_out}
    ForkServer(control).serve(ready)


if __name__ == "__main__":
    main(sys.argv[1:])
