"""The kernel's count of OOM kills. A SIGKILL alone does not tell its sender."""

from __future__ import annotations

from pathlib import Path


class OomCounter:
    """Counts OOM kills in this control group (without one: on this machine) from now on."""

    def __init__(self) -> None:
        self._before = _oom_kills()

    def increased(self) -> bool:
        """Return whether there was an OOM kill since."""
        return _oom_kills() > self._before


def _oom_kills() -> int:
    for source in (_own_cgroup() / "memory.events", Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        count = _count(source)
        if count is not None:
            return count
    return 0


def _own_cgroup() -> Path:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return Path("/nowhere")
    path = next((line[3:] for line in lines if line.startswith("0::")), "/")
    return Path("/sys/fs/cgroup") / path.lstrip("/")


def _count(source: Path) -> int | None:
    try:
        fields = dict(line.split() for line in source.read_text().splitlines())
        return int(fields["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None
