"""Keys and workers."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from nightshift.errors import NotFound, Unauthorized
from shared.clock import db_now
from shared.db import schema
from shared.db.engine import read, write
from shared.fleet import keys, workers
from shared.fleet.workers import WorkerInfo

INFO = WorkerInfo("cpu0@here", "here", 123, "cpu", "EPYC", frameworks=["torch"], versions={"torch": "2"})


def test_a_key_opens_until_it_is_revoked(engine: Engine) -> None:
    with write(engine) as conn:
        principal, secret = keys.create(conn, "laptop")
        rotated, second = keys.create(conn, "new laptop", owner_id=principal.owner_id)
    with read(engine) as conn:
        assert keys.verify(conn, secret) == principal
        assert keys.verify(conn, second).owner_id == principal.owner_id
    with write(engine) as conn:
        keys.revoke(conn, principal.key_id)
        keys.revoke(conn, principal.key_id)
    with read(engine) as conn:
        with pytest.raises(Unauthorized):
            keys.verify(conn, secret)
        assert keys.verify(conn, second) == rotated
        listed = {key["name"]: key["revoked_at"] is not None for key in keys.list_keys(conn)}
    assert listed == {"laptop": True, "new laptop": False}


@pytest.mark.parametrize("wrong", ["", "ns_", "schlüssel", "\ud800", "\0", "x" * 100_000])
def test_no_text_opens_by_accident(engine: Engine, wrong: str) -> None:
    with pytest.raises(Unauthorized), read(engine) as conn:
        keys.verify(conn, wrong)


def test_the_secret_is_not_stored(engine: Engine) -> None:
    with write(engine) as conn:
        _, secret = keys.create(conn, "laptop")
        stored = " ".join(map(str, conn.execute(select(schema.api_keys)).one()))
    assert secret not in stored
    assert secret.removeprefix(keys.PREFIX) not in stored


def test_revoking_what_is_not_there(engine: Engine) -> None:
    with pytest.raises(NotFound), write(engine) as conn:
        keys.revoke(conn, "nothing")


def test_the_embedded_key_lies_in_a_file_only_its_owner_reads(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "api_key"
    secret = keys.ensure_key_file(engine, path)
    assert keys.ensure_key_file(engine, path) == secret == path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with read(engine) as conn:
        assert keys.verify(conn, secret).name == "embedded"


def test_the_embedded_key_survives_a_new_database_but_not_its_revocation(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "api_key"
    path.write_text("ns_known-from-before\n")
    secret = keys.ensure_key_file(engine, path)
    with write(engine) as conn:
        keys.revoke(conn, keys.verify(conn, secret).key_id)
    keys.ensure_key_file(engine, path)
    with pytest.raises(Unauthorized), read(engine) as conn:
        keys.verify(conn, secret)


def states(engine: Engine) -> dict[str, str]:
    with read(engine) as conn:
        return {worker["name"]: worker["state"] for worker in workers.list_workers(conn, 30.0)}


def fall_silent(engine: Engine, seconds: float) -> None:
    with write(engine) as conn:
        conn.execute(update(schema.workers).values(heartbeat_at=db_now() - seconds))


def test_a_worker_is_online_while_it_sends_heartbeats(engine: Engine) -> None:
    with write(engine) as conn:
        assert not workers.heartbeat(conn, INFO.name), "unknown: it must register again"
        workers.register(conn, INFO)
    assert states(engine) == {"cpu0@here": "online"}
    fall_silent(engine, 31)
    assert states(engine) == {"cpu0@here": "offline"}
    with write(engine) as conn:
        assert workers.heartbeat(conn, INFO.name, job_id="abc", draining=True)
    assert states(engine) == {"cpu0@here": "draining"}
    with read(engine) as conn:
        (shown,) = workers.list_workers(conn, 30.0)
    assert (shown["job_id"], shown["device_name"], shown["frameworks"]) == ("abc", "EPYC", ["torch"])


def test_a_worker_that_leaves_is_offline_but_not_its_successor(engine: Engine) -> None:
    with write(engine) as conn:
        workers.register(conn, INFO)
        workers.deregister(conn, INFO.name, pid=999)
    assert states(engine) == {"cpu0@here": "online"}
    with write(engine) as conn:
        workers.deregister(conn, INFO.name, pid=123)
    assert states(engine) == {"cpu0@here": "offline"}
    with write(engine) as conn:
        workers.register(conn, INFO)
    assert states(engine) == {"cpu0@here": "online"}


def test_silent_workers_are_marked(engine: Engine) -> None:
    with write(engine) as conn:
        workers.register(conn, INFO)
        assert workers.mark_offline(conn, 30.0) == []
    fall_silent(engine, 31)
    with write(engine) as conn:
        assert workers.mark_offline(conn, 30.0) == [INFO.name]
        assert workers.mark_offline(conn, 30.0) == []
