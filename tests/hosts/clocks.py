"""Clocks of hosts: libfaketime shifts the time of day for all processes of a host, and not the time that passes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

#: Where Debian's package and others put it.
_INSTALLED = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")
#: Seconds after which a process sees a change.
SEEN_AFTER = 1


def library() -> Path | None:
    """Return libfaketime, of the Python package or of the system, or None."""
    found: list[Path] = []
    spec = find_spec("libfaketime")
    if spec is not None and spec.origin is not None:
        found += Path(spec.origin).parent.rglob("libfaketime.so.1")
    for pattern in _INSTALLED:
        found += Path("/").glob(pattern.lstrip("/"))
    return found[0] if found else None


class HostClocks:
    """A file for each host: the seconds by which its clock is ahead."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.library = folder, library()
        folder.mkdir()

    def environment(self, host: str) -> dict[str, str]:
        """Return the environment of a host whose clock can be moved; none without libfaketime."""
        if self.library is None:
            return {}
        self.move(host, 0)
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": f"/clocks/{host}",
            "FAKETIME_CACHE_DURATION": str(SEEN_AFTER),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def move(self, host: str, seconds: int) -> None:
        """Set the clock of a host this far ahead of the real time, or behind it."""
        aside = self.folder / f"{host}.new"
        aside.write_text(f"{seconds:+d}\n")
        aside.rename(self.folder / host)
