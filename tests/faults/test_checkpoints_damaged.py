"""What lies on the disk is not what was written: the checkpoint before is used, and the damaged one is never tried
again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from shared.db.engine import read
from shared.db.schema import attempts, checkpoints
from shared.job_files.layout import job_dir
from tests.faults.oracle import assert_sound
from tests.support import databases
from tests.support.lone_worker import Cluster, open_cluster
from tests.support.stack import eventually


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with open_cluster(folder, databases.sqlite_database(folder, sqlite_template)) as cluster:
        yield cluster


def truncated(folder: Path) -> None:
    file = folder / "state.json"
    file.write_bytes(file.read_bytes()[:-1])


def emptied(folder: Path) -> None:
    (folder / "state.json").write_bytes(b"")


def one_bit_flipped(folder: Path) -> None:
    data = bytearray((folder / "state.json").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "state.json").write_bytes(data)


def missing(folder: Path) -> None:
    shutil.rmtree(folder)


def _ready(cluster: Cluster, job_id: str) -> list[Any]:
    """Newest first."""
    mine = select(checkpoints).where(checkpoints.c.job_id == job_id, checkpoints.c.state == "ready")
    with read(cluster.engine) as conn:
        return list(conn.execute(mine.order_by(checkpoints.c.step.desc())))


def _states(cluster: Cluster, ids: list[str]) -> list[str]:
    with read(cluster.engine) as conn:
        found = {row.id: row.state for row in conn.execute(select(checkpoints.c.id, checkpoints.c.state))}
    return [found[key] for key in ids]


def _resumed(cluster: Cluster, job_id: str, fence: int) -> int | None:
    with read(cluster.engine) as conn:
        mine = select(attempts.c.resumed_step).where(attempts.c.job_id == job_id, attempts.c.fence == fence)
        return conn.scalar(mine)


def _killed_at_ten(cluster: Cluster, **tags: Any) -> tuple[str, list[Any]]:
    """A job whose worker is dead, and its checkpoints, of steps 8 and 4."""
    worker = cluster.target_worker
    job_id = cluster.submit(steps=12, checkpoint=4, hold_at=10, **tags)
    worker.start()
    found = eventually("both are listed", lambda: len(rows := _ready(cluster, job_id)) == 2 and rows)
    assert [row.step for row in found] == [8, 4]
    worker.kill()
    (job_dir(cluster.root, job_id) / "go").touch()
    return job_id, found


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("damage", [truncated, emptied, one_bit_flipped, missing])
def test_the_newest_checkpoint_damaged(cluster: Cluster, damage: Callable[[Path], None], count: int) -> None:
    """`count` of the two that are kept; with both gone the job begins again."""
    job_id, found = _killed_at_ten(cluster)
    for row in found[:count]:
        damage(job_dir(cluster.root, job_id) / row.path)
    assert cluster.finish(job_id).state == "succeeded"
    assert _states(cluster, [row.id for row in found[:count]]) == ["quarantined"] * count
    assert _resumed(cluster, job_id, 2) == (4 if count == 1 else None)
    assert_sound(cluster.engine, cluster.root, cluster.accepted)


def test_a_checkpoint_that_kills_every_runner_that_loads_it(cluster: Cluster) -> None:
    """Its bytes match the hash, so no check finds it. After two crashes the job resumes from the one before."""
    job_id, found = _killed_at_ten(cluster, unloadable=8)
    assert cluster.finish(job_id).state == "succeeded"
    assert cluster.outcomes(job_id) == ["lost", "crashed", "crashed", "succeeded"]
    assert _states(cluster, [found[0].id]) == ["quarantined"]
    assert _resumed(cluster, job_id, 4) == 4
    assert_sound(cluster.engine, cluster.root, cluster.accepted)
