"""The worker's side of a forkserver: starts it with a sanitized environment and forks runners.

A forkserver that dies takes its runners with it (they are reported as killed) and is restarted at once, so that the
next attempt finds a warm one. One whose imports fail is restarted after a growing pause, and nobody waits for it
meanwhile. One that was stopped stays so until it is started again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from nightshift.errors import Unavailable
from shared.events import emit
from shared.restarts import restart_delay
from worker.runners.forkserver import MAX_MESSAGE
from worker.runners.process_cleanup import FAMILY, kill_tagged, tag_name

#: The variables of the worker's environment that runners get: names, or prefixes that end in `*`. An allow list, so
#: secrets need no rules of their own.
PASSED_ON = (
    *("PATH", "HOME", "USER", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "XDG_CACHE_HOME"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_*", "GLIBC_TUNABLES", "VIRTUAL_ENV"),
    *("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "MPL*"),
    *("CUDA_*", "CUBLAS*", "CUDNN_*", "NVIDIA_*", "NCCL_*", "OMP_*", "GOMP_*", "KMP_*"),
    *("MKL_*", "OPENBLAS_*", "ATEN_*", "DNNL_*", "ONEDNN_*"),
    *("TORCH_*", "PYTORCH_*", "TF_*", "XLA_*", "KERAS_*", "JE_ARROW_*"),
    "NIGHTSHIFT_FAILPOINT",
    "NIGHTSHIFT_FAMILIES",
)

#: Seconds that a start may take before a fork fails. TensorFlow on a busy machine takes 20.
START_SECONDS = 180.0
KILL_SECONDS = 10.0
#: Interval at which a wait for a start looks whether it is still wanted (seconds).
LOOK_SECONDS = 0.1

_FORKSERVERS = itertools.count(1)


class ForkserverUnavailable(Unavailable):
    """No runner can be forked now. The attempt is released and another one started later."""


@dataclass(frozen=True)
class Exit:
    """How a runner's process ended, by wait4. `lost`: unknown, because the forkserver died first."""

    code: int | None = None
    signal: int | None = None
    peak_memory_bytes: int | None = None
    lost: bool = False


@dataclass
class RunnerHandle:
    """A forked runner. `on_exit` is called once, from the client's reading thread."""

    key: str
    client: ForkserverClient
    on_exit: Callable[[], None]
    pid: int | None = None
    exit: Exit | None = None
    refused: str | None = None
    answered: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def signal(self, number: int) -> None:
        """Signal the runner's process group, if it still exists."""
        self.client.signal(self.key, number)

    def kill(self) -> None:
        """Kill the runner and return when all its processes are gone, or after KILL_SECONDS.

        A process can hang in the kernel.
        """
        self.signal(signal.SIGKILL)
        self.ended.wait(KILL_SECONDS)


def sanitized_environment(environ: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Return a forkserver's environment: allowed variables, our package's folder, and `extra`."""
    exact = {name for name in PASSED_ON if not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in PASSED_ON if name.endswith("*"))
    passed = {name: value for name, value in environ.items() if name in exact or name.startswith(prefixes)}
    root = str(Path(__file__).resolve().parents[2])
    passed["PYTHONPATH"] = os.pathsep.join(filter(None, [root, passed.get("PYTHONPATH", "")]))
    return {**passed, **extra}


#: Output lines in the event of a forkserver's exit, and most characters of a line.
LAST_LINES, MAX_LINE = 20, 2_000


def _always() -> bool:
    return True


def _nothing() -> None:
    return None


class ForkserverClient:
    """A forkserver process, restarted when it dies. It may be started and stopped any number of times."""

    def __init__(
        self, name: str, modules: Sequence[str], env: Mapping[str, str], plugins: Sequence[str] | None = None
    ) -> None:
        """Create a client. `modules` are imported first, then `plugins`: modules of installed packages (None: none)."""
        self.name = name
        #: How long the imports took; None: they are not done.
        self.start_seconds: float | None = None
        #: Why its imports failed at the last start; None: they did not, or it was stopped since.
        self.failed: str | None = None
        #: Called after each change of `failed`.
        self.on_change: Callable[[], None] = _nothing
        #: Starts in a row that ended during the imports: one that dies again must not use up the machine.
        self._deaths = 0
        self._modules, self._env = [*modules, *([] if plugins is None else ["--", *plugins])], dict(env)
        self._lock = threading.Lock()
        #: Held while the process is started or stopped on request.
        self._lifecycle = threading.Lock()
        self._ready = threading.Event()
        #: Set while nobody wants the process to run.
        self._stopped = threading.Event()
        self._stopped.set()
        self._closed = False
        self._runners: dict[str, RunnerHandle] = {}
        self._keys = itertools.count(1)
        self._family: str | None = None
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)

    # -- start and end ----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the forkserver, unless it runs, without waiting; `wait_ready` waits until it is warm."""
        with self._lifecycle, self._lock:
            if self._stopped.is_set() and not self._closed:
                self._stopped.clear()
                self._spawn()

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._family, self.start_seconds = tag_name(next(_FORKSERVERS)), None
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker.runners.forkserver", str(theirs.fileno()), *self._modules],
                env={**self._env, FAMILY: self._family},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # only the worker handles Ctrl-C in its terminal
            )
        self._control = ours
        threading.Thread(
            target=self._read_output, args=(self._process,), name=f"forkserver-{self.name}-output", daemon=True
        ).start()
        self._listener = threading.Thread(
            target=self._listen, args=(ours, self._process), name=f"forkserver-{self.name}", daemon=True
        )
        self._listener.start()

    def _read_output(self, process: subprocess.Popen[bytes]) -> None:
        """Emit the output of frameworks as events, because a log of JSON lines has no place for a banner."""
        assert process.stdout is not None
        for line in process.stdout:
            text = line.decode("utf-8", "replace").rstrip()
            self._last_lines.append(text)
            emit("forkserver.said", framework=self.name, line=text[:MAX_LINE])

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the forkserver is warm or starts, also again after a death."""
        return not self._stopped.is_set()

    @property
    def is_ready(self) -> bool:
        """Whether the forkserver is warm: it forks at once."""
        return self._ready.is_set()

    def wait_ready(self, timeout: float, is_wanted: Callable[[], bool] = _always) -> bool:
        """Wait until the forkserver is warm; return False after the timeout, or if it fails or is not wanted."""
        give_up_at = monotonic() + timeout
        while not self._ready.is_set():
            left = give_up_at - monotonic()
            if left <= 0 or self.failed is not None or self._stopped.is_set() or not is_wanted():
                return False
            self._ready.wait(min(left, LOOK_SECONDS))
        return True

    def stop(self) -> None:
        """End the forkserver and all its runners; `start` starts it again."""
        with self._lifecycle:
            with self._lock:
                self._stopped.set()
            if self._process is None or self._control is None or self._listener is None:
                return
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
            self._end(self._process)
            self._listener.join()  # it has reported the runners' end before the next start
            self._note(None)
            self._deaths = 0

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a forkserver whose control socket is closed; one that still imports does not notice."""
        if not self._ready.is_set():
            process.kill()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self.start_seconds is None and self._family is not None:
            kill_tagged(self._family)  # a child in which it tried a package

    def close(self) -> None:
        """End the forkserver and all its runners for good."""
        self._closed = True
        self.stop()

    # -- requests ---------------------------------------------------------------------------------

    def fork(
        self,
        sock: socket.socket,
        out: int,
        err: int,
        on_exit: Callable[[], None],
        options: Mapping[str, Any] | None = None,
    ) -> RunnerHandle:
        """Fork a runner that serves `sock`; the caller closes its copies of the descriptors.

        `options`: `memory_limit_bytes`; `probe` (a framework). Raises ForkserverUnavailable.
        """
        if not self.wait_ready(START_SECONDS):
            raise ForkserverUnavailable(self.why_cold())
        handle = RunnerHandle(str(next(self._keys)), self, on_exit)
        with self._lock:
            self._runners[handle.key] = handle
        self._send({**(options or {}), "fork": handle.key}, [sock.fileno(), out, err])
        if not handle.answered.wait(START_SECONDS) or handle.pid is None:
            self._forget(handle)
            raise ForkserverUnavailable(handle.refused or f"the {self.name} forkserver died before it could fork")
        return handle

    def why_cold(self) -> str:
        """Return what to say after a wait in which the forkserver did not become warm."""
        if self.failed is not None:
            return f"the {self.name} forkserver does not start: {self.failed}"
        if self._stopped.is_set():
            return f"the {self.name} forkserver is not running"
        return f"the {self.name} forkserver did not start within {START_SECONDS:.0f} s"

    def signal(self, key: str, number: int) -> None:
        """Signal a runner's process group, if the forkserver still runs."""
        with contextlib.suppress(ForkserverUnavailable):  # then the runner is dead too
            self._send({"signal": key, "number": number})

    def _send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        control = self._control
        if control is None:
            raise ForkserverUnavailable(f"the {self.name} forkserver is not running")
        try:
            socket.send_fds(control, [json.dumps(message).encode()], list(descriptors))
        except OSError as error:
            raise ForkserverUnavailable(f"the {self.name} forkserver is gone: {error}") from error

    def _forget(self, handle: RunnerHandle) -> None:
        with self._lock:
            self._runners.pop(handle.key, None)

    # -- replies ----------------------------------------------------------------------------------

    def _listen(self, control: socket.socket, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := control.recv(MAX_MESSAGE):
                self._on_message(json.loads(data))
        self._on_forkserver_exit(control, process)

    def _on_message(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self.start_seconds = message["seconds"]
            emit("forkserver.ready", framework=self.name, **message)
            self._deaths = 0
            self._ready.set()
            self._note(None)
            return
        if "failed" in message:
            self._note(message["failed"])
            return
        key = str(message.get("forked") or message.get("refused") or message.get("exited"))
        with self._lock:
            handle = self._runners.pop(key, None) if "exited" in message else self._runners.get(key)
        if handle is None:
            return
        if "exited" in message:
            _finish(handle, Exit(message["code"], message["signal"], message["peak_memory_bytes"]))
        else:
            handle.pid, handle.refused = message.get("pid"), message.get("why")
            handle.answered.set()

    def _note(self, failed: str | None) -> None:
        """Note why the imports failed, or that they did not."""
        if failed is not None:
            emit("forkserver.failed", framework=self.name, problem=failed)
        if failed != self.failed:
            self.failed = failed
            self.on_change()

    def _on_forkserver_exit(self, control: socket.socket, process: subprocess.Popen[bytes]) -> None:
        """Report all its runners as killed, and restart the forkserver unless it was stopped."""
        self._ready.clear()
        control.close()
        with self._lock:
            lost, self._runners = list(self._runners.values()), {}
        for handle in lost:
            _finish(handle, Exit(signal=signal.SIGKILL, lost=True))
        if self._stopped.is_set():
            return
        process.kill()
        code = process.wait()
        if self._family is not None:
            kill_tagged(self._family)  # its runners died with it, but not their children
        emit("forkserver.died", framework=self.name, exit_code=code, said=list(self._last_lines))
        if self.start_seconds is None:
            self._deaths += 1
            self._stopped.wait(restart_delay(self._deaths))
        with self._lock:
            if not self._stopped.is_set():
                self._spawn()


def _finish(handle: RunnerHandle, exit: Exit) -> None:
    handle.exit = exit
    handle.answered.set()
    handle.ended.set()
    handle.on_exit()
