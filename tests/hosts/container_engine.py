"""Hosts as containers: each has an address, a process tree, a clock and a small disk of its own.

The engine is the command that NIGHTSHIFT_ENGINE names, else `podman` or `docker`, whichever answers. Its image is
empty: containers see this machine's programs, this checkout and its virtual environment, mounted read-only, so no image
is downloaded or built.
"""

from __future__ import annotations

import io
import ipaddress
import itertools
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.paths import ROOT

#: Label of all that this suite makes; its value is the process that made it.
LABEL = "nightshift.hosts"
IMAGE = "localhost/nightshift-empty:2"
#: Folders of the system that programs need.
_SYSTEM = ("/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64")
#: Longest time for one command of the engine (seconds); a stop waits for its host.
_COMMAND_SECONDS = 150


class EngineError(Exception):
    """A command of the engine failed."""


class ContainerEngine:
    """The commands of an engine that Docker and Podman share."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __call__(self, *arguments: str, given: bytes | None = None) -> str:
        ended = subprocess.run(
            [self.command, *arguments], input=given, capture_output=True, timeout=_COMMAND_SECONDS, check=False
        )
        if ended.returncode != 0:
            raise EngineError(f"{' '.join(arguments[:3])}: {ended.stderr.decode(errors='replace').strip()[-800:]}")
        return ended.stdout.decode(errors="replace").strip()

    def is_usable(self) -> bool:
        try:
            self("info")
        except (EngineError, OSError, subprocess.TimeoutExpired):
            return False
        return True

    def make_image(self) -> None:
        """Import an image without any file, unless it is there. A mount has the mode of the folder below it."""
        if IMAGE in self("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines():
            return
        empty = io.BytesIO()
        with tarfile.open(fileobj=empty, mode="w") as archive:
            for name in ("data", "tmp"):
                archive.addfile(_folder(name))
        self("import", "-", IMAGE, given=empty.getvalue())

    def remove_leftovers(self) -> None:
        """Remove what a run that was killed has left: the process that its label names is gone."""
        for kind, remove in (("ps", ("rm", "-f", "-v")), ("network", ("network", "rm"))):
            listing = ("ps", "-a") if kind == "ps" else ("network", "ls")
            for name in self(*listing, "--filter", f"label={LABEL}", "--format", _NAME[kind]).split():
                inspected = ("inspect",) if kind == "ps" else ("network", "inspect")
                pid = self(*inspected, "--format", _LABEL[kind], name)
                if not pid.isdigit() or not psutil.pid_exists(int(pid)):
                    self(*remove, name)


_NAME = {"ps": "{{.Names}}", "network": "{{.Name}}"}
_LABEL = {
    "ps": '{{index .Config.Labels "' + LABEL + '"}}',
    "network": '{{index .Labels "' + LABEL + '"}}',
}


def _folder(name: str) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.mode = tarfile.DIRTYPE, 0o1777
    return found


def find() -> ContainerEngine | None:
    """Return an engine that answers and whose containers this process may reach, or None."""
    if os.geteuid() != 0:
        return None
    named = os.environ.get("NIGHTSHIFT_ENGINE")
    for command in [named] if named else ["podman", "docker"]:
        if shutil.which(command) and (engine := ContainerEngine(command)).is_usable():
            return engine
    return None


MISSING = "no container engine here: install podman or docker (NIGHTSHIFT_ENGINE names another), and run as root"


# -- one network and its hosts --------------------------------------------------------------------------


@dataclass
class Host:
    """A container with an address. Its disk is empty again after each start."""

    network: Network
    name: str
    address: str
    mac: str
    frozen: bool = field(default=False)

    @property
    def container(self) -> str:
        return f"{self.network.name}-{self.name}"

    def _do(self, *arguments: str) -> str:
        return self.network.engine(*arguments)

    def run(self, *command: str) -> str:
        """Run a command on the host. Raises EngineError if it fails or the host is away."""
        return self._do("exec", self.container, *command)

    def kill(self) -> None:
        """Take its power away."""
        self._do("kill", "--signal", "KILL", self.container)
        self._do("wait", self.container)

    def stop(self, seconds: int) -> int:
        """Shut down as an operator would, and return the exit code."""
        self._do("stop", "--time", str(seconds), self.container)
        return self.exit_code()

    def start(self) -> None:
        """Start it again, with its address, unless it runs."""
        self._do("start", self.container)

    def freeze(self) -> None:
        self._do("pause", self.container)
        self.frozen = True

    def thaw(self) -> None:
        self._do("unpause", self.container)
        self.frozen = False

    def runs(self) -> bool:
        return self._do("inspect", "--format", "{{.State.Running}}", self.container) == "true"

    def exit_code(self) -> int:
        return int(self._do("inspect", "--format", "{{.State.ExitCode}}", self.container))

    def log(self) -> str:
        both = subprocess.run(
            [self.network.engine.command, "logs", self.container],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return both.stdout.decode(errors="replace")

    # -- links: packets for a wrong hardware address are lost without a word, as in a cut cable ----------

    def lose(self, other: Host) -> None:
        """Let nothing that this host sends reach the other."""
        self._reach(other, NOBODY)

    def find(self, other: Host) -> None:
        self._reach(other, other.mac)

    def _reach(self, other: Host, mac: str) -> None:
        """Send to another host by this hardware address, also while this one stops, when engines run no commands in it.

        Raises EngineError if the host is off.
        """
        pid = self._do("inspect", "--format", "{{.State.Pid}}", self.container)
        entry = ("ip", "neigh", "replace", other.address, "lladdr", mac, "dev", "eth0", "nud", "permanent")
        ended = subprocess.run(
            ["nsenter", "--target", pid, "--net", *entry], capture_output=True, text=True, check=False
        )
        if ended.returncode != 0:
            raise EngineError(f"{self.name} cannot change a link: {ended.stderr.strip()}")


#: A hardware address that no host has.
NOBODY = "02:00:00:00:00:fe"


class Network:
    """A network that leads nowhere else, and the hosts on it."""

    def __init__(self, engine: ContainerEngine) -> None:
        self.engine = engine
        self.name = f"nightshift-{os.getpid()}-{next(_numbers)}"
        self.subnet = self._make()
        self.hosts: dict[str, Host] = {}
        self._addresses = itertools.islice(self.subnet.hosts(), 9, None)  # the first one is this machine's

    def _make(self) -> ipaddress.IPv4Network:
        """Create it with the first range that is free."""
        tried: list[str] = []
        for _ in range(20):
            subnet = ipaddress.IPv4Network(f"10.{random.randrange(64, 255)}.{random.randrange(256)}.0/24")
            labels = ("--label", f"{LABEL}={os.getpid()}")
            try:
                self.engine("network", "create", "--internal", "--subnet", str(subnet), *labels, self.name)
            except EngineError as error:
                tried.append(str(error))
            else:
                return subnet
        raise EngineError(f"no network could be made: {tried[-1]}")

    def add(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        user: str | None = None,
        disk_bytes: int = 64 << 20,
        stop_signal: str = "SIGTERM",
        mounts: Mapping[Path, str] | None = None,
    ) -> Host:
        """Start a host. `mounts`: folder of this machine -> where the host sees it, with `:ro` or not."""
        address = next(self._addresses)
        host = Host(self, name, str(address), f"02:00:00:00:01:{address.packed[-1]:02x}")
        arguments = ["run", "--detach", "--init", "--name", host.container, "--hostname", name, "--label"]
        arguments += [f"{LABEL}={os.getpid()}", "--network", self.name, "--ip", host.address, "--mac-address", host.mac]
        arguments += ["--stop-signal", stop_signal, "--cap-add", "NET_ADMIN", "--tmpfs", "/tmp:rw,size=64m,mode=1777"]
        if not any(place.split(":")[0] == "/data" for place in (mounts or {}).values()):
            arguments += ["--tmpfs", f"/data:rw,size={disk_bytes},mode=1777"]
        for folder, place in {**machine(), **(mounts or {})}.items():
            arguments += ["--volume", f"{folder}:{place}"]
        for key, value in environment.items():
            arguments += ["--env", f"{key}={value}"]
        if user is not None:
            arguments += ["--user", user]
        self.engine(*arguments, IMAGE, *command)
        self.hosts[name] = host
        return host

    def remove(self, host: Host) -> None:
        """Take a host away, whatever its state."""
        if host.frozen:
            host.thaw()
        self.engine("rm", "--force", "--volumes", "--time", "0", host.container)
        del self.hosts[host.name]

    def ended(self) -> list[str]:
        """Return the names of hosts that do not run."""
        query = ("ps", "-a", "--filter", f"name={self.name}-", "--format", "{{.Names}} {{.Status}}")
        rows = [line.split(maxsplit=1) for line in self.engine(*query).splitlines()]
        up = {name.removeprefix(f"{self.name}-") for name, status in rows if status.startswith("Up")}
        return [name for name in self.hosts if name not in up]

    def close(self) -> None:
        """Remove everything, whatever its state."""
        for host in list(self.hosts.values()):
            self.remove(host)
        self.engine("network", "rm", self.name)


_numbers = itertools.count(1)


def machine() -> dict[Path, str]:
    """Return the folders of this machine that all hosts see."""
    wanted = [Path(name) for name in _SYSTEM] + [Path(sys.base_prefix), ROOT]
    if not Path(sys.prefix).is_relative_to(ROOT):
        wanted.append(Path(sys.prefix))
    below = [path for path in wanted if not any(path != other and path.is_relative_to(other) for other in wanted)]
    return {path: f"{path}:ro" for path in below if path.exists()}


@contextmanager
def open_network(engine: ContainerEngine) -> Iterator[Network]:
    """Yield a network without hosts; remove it with all that was put on it."""
    engine.remove_leftovers()
    engine.make_image()
    network = Network(engine)
    try:
        yield network
    finally:
        network.close()
