"""What the launcher does in SQL: bring the schema up to date, make sure of the key, see whether workers are online."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Engine, select

from api.client.up import folder
from shared.db.engine import make_engine, read, write
from shared.db.migrate import upgrade
from shared.errors import DatabaseUnavailable
from shared.fleet import keys
from shared.fleet.models import Worker
from shared.settings import Settings

#: The owner of the key that `nightshift up` makes.
OWNER = "local"


class Database:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started_at = time.time()
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        self._engine = self._engine or make_engine(self.settings.sql_url)
        return self._engine

    def prepare(self, data_dir: Path) -> None:
        upgrade(self.settings.sql_url)
        self.ensure_key(data_dir)

    def ensure_key(self, data_dir: Path) -> None:
        """`<data_dir>/api_key` is there and its hash is known; a key that was revoked or lost is replaced."""
        with write(self.engine) as conn:
            key = folder.read_key(data_dir)
            if key and keys.verify(conn, key):
                return
            folder.write_key(data_dir, keys.create(conn, owner_id=OWNER, name="nightshift up").key)

    def worker_is_online(self, name: str) -> bool:
        """Whether this worker registered since the launcher began: a row of an earlier life does not count."""
        table = Worker.__table__  # type: ignore[attr-defined]
        query = select(table.c.heartbeat_at).where(table.c.name == name, table.c.state == "online")
        try:
            with read(self.engine) as conn:
                heartbeat: float | None = conn.execute(query).scalar()
        except DatabaseUnavailable:
            return False
        return heartbeat is not None and heartbeat >= self.started_at
