"""A rolling upgrade: old and new processes side by side, a migration in the middle, and jobs all the time.

The old version is the commit before the ledger of devices, which changed how workers claim.
"""

from __future__ import annotations

import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select

from shared.db.engine import read
from shared.db.migrate import upgrade
from shared.db.schema import attempts
from tests.faults.nemesis import blamed
from tests.faults.oracle import violations
from tests.hosts.container_engine import ContainerEngine
from tests.hosts.load import Load, different_weights
from tests.hosts.nemesis import CALM, DRAIN
from tests.hosts.site import WORKERS, Site, open_site
from tests.support.paths import ROOT
from tests.support.stack import eventually

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
#: The first migration after the old version.
NEXT = "shared/db/migrations/versions/0027_add_the_ledger_of_devices.py"
OLD_SCHEMA = "0026"
#: Jobs that succeed before each step goes on.
SOME = 4
SEED = 15


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


@pytest.fixture
def old(folder: Path) -> Path:
    """Return a checkout of the old version."""
    try:
        added = _git("log", "--diff-filter=A", "--format=%H", "--", NEXT).decode().split()[-1]
        packed = folder / "old.tar"
        packed.write_bytes(_git("archive", f"{added}^"))
    except (OSError, subprocess.CalledProcessError, IndexError):
        pytest.skip("the history of this checkout does not reach back to the old version")
    with tarfile.open(packed) as archive:
        archive.extractall(folder / "old", filter="data")
    return folder / "old"


class Upgrade:
    """The site and its jobs."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.load = Load(site, SEED)

    def wait_for_jobs(self, *hosts: str) -> None:
        """Wait until each host's worker has finished a job that began after now, and some jobs are done."""
        begun = time.time()

        def done() -> bool:
            query = select(attempts.c.worker, func.count()).group_by(attempts.c.worker)
            query = query.where(attempts.c.started_at > begun, attempts.c.outcome == "succeeded")
            with read(self.site.engine) as conn:
                found = {worker.partition("@")[2]: count for worker, count in conn.execute(query).all()}
            return found.keys() >= {*hosts} and sum(found.values()) >= SOME

        eventually(f"jobs succeed on {hosts}", done)

    def end(self) -> list[str]:
        """Return what broke a promise."""
        site = self.site
        self.load.stop()
        self.load.everything_ends(CALM)
        found = violations(site.engine, site.copy_of_bucket(), self.load.accepted, site.work)
        return [*found, *self.load.wrong, *blamed(site), *different_weights(site)]


def test_a_rolling_upgrade_loses_nothing(containers: ContainerEngine, folder: Path, old: Path) -> None:
    with open_site(containers, folder, OLD_SCHEMA) as site:
        site.start_api(old)
        site.start_beat(code=old)
        for name in WORKERS:
            site.start_worker(name, old)
        site.wait_for_workers(*WORKERS)
        with _jobs(site) as running:
            running.wait_for_jobs(*WORKERS)
            upgrade(site.database_url)
            running.wait_for_jobs(*WORKERS)
            for name in ("worker3", "beat", "api", "worker1", "worker2"):
                _replace(site, name)
                running.wait_for_jobs(*WORKERS)
            assert running.end() == []


@contextmanager
def _jobs(site: Site) -> Iterator[Upgrade]:
    running = Upgrade(site)
    try:
        yield running
    finally:
        running.load.stop()


def _replace(site: Site, name: str) -> None:
    """Stop a host of the old version and start one of the new version in its place."""
    host = site.hosts[name]
    assert host.stop(DRAIN) == 0, host.log()[-2000:]
    site.network.remove(host)
    match name:
        case "api":
            site.start_api()
        case "beat":
            site.start_beat()
        case _:
            site.start_worker(name)
            site.wait_for_workers(name)
