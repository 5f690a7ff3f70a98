"""SQL of the launcher: migrate the schema, ensure that a key exists, check whether workers are online."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from nightshift.errors import Unauthorized
from shared.clock import db_now
from shared.db.engine import make_engine, read
from shared.db.migrate import upgrade
from shared.db.schema import workers
from shared.errors import DatabaseUnavailable
from shared.fleet import keys
from shared.fleet.workers import AWAY
from shared.settings import Settings


class Database:
    """The stack's database."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started_at = 0.0
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """Return the engine, created at first use."""
        self._engine = self._engine or make_engine(self.settings.sql_url)
        return self._engine

    def prepare(self, data_dir: Path) -> None:
        """Migrate the schema and ensure that `<data_dir>/api_key` is valid."""
        upgrade(self.settings.sql_url)
        with read(self.engine) as conn:
            self.started_at = conn.scalar(select(db_now())) or 0.0
        self.ensure_key(data_dir)

    def ensure_key(self, data_dir: Path) -> None:
        """Create the key in `<data_dir>/api_key` at the first start, and again if it is empty or revoked."""
        path = data_dir / "api_key"
        if path.exists() and not path.read_text().strip():
            path.unlink()
        key = keys.ensure_key_file(self.engine, path)
        try:
            with read(self.engine) as conn:
                keys.verify(conn, key)
        except Unauthorized:
            path.unlink()
            keys.ensure_key_file(self.engine, path)

    def worker_has_started(self, name: str) -> bool:
        """Return whether this worker has registered since the launcher started; an older row does not count.

        One that left its device, or whose disk is full, has started: it looks again, and the others work.
        """
        started = workers.c.state.in_(("online", *AWAY))
        query = select(workers.c.heartbeat_at).where(workers.c.name == name, started)
        try:
            with read(self.engine) as conn:
                heartbeat: float | None = conn.scalar(query)
        except DatabaseUnavailable:
            return False
        return heartbeat is not None and heartbeat >= self.started_at

    def loaded_by(self, name: str) -> list[str]:
        """Return the frameworks that a worker has loaded since the launcher started."""
        query = select(workers.c.usage).where(workers.c.name == name, workers.c.heartbeat_at >= self.started_at)
        try:
            with read(self.engine) as conn:
                usage: dict[str, Any] | None = conn.scalar(query)
        except DatabaseUnavailable:
            return []
        return list((usage or {}).get("loaded", []))
