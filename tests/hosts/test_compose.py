"""docker-compose.yml, started: users, volumes, health checks, ports and networks work, a job survives its worker.

The images that `docker compose build` makes are used if the engine has them. Else the services run this checkout in an
empty image, like the hosts of this suite. Redis and PostgreSQL are those of the file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.hosts.container_engine import IMAGE, ContainerEngine, EngineError, machine
from tests.hosts.site import REAL
from tests.support.paths import ROOT
from tests.support.redis import free_port
from tests.support.stack import eventually

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]
FILE = ROOT / "docker-compose.yml"
SERVERS, OURS = ("redis", "postgres", "migrate"), ("api", "beat", "flower", "worker-cpu")
PASSWORD = "0123456789abcdef"


class Compose:
    """The services of the file, as a project of its own."""

    def __init__(self, engine: ContainerEngine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.project = f"nightshift-compose-{os.getpid()}"
        self.is_podman = Path(engine.command).name == "podman"
        self.port = free_port()
        self.environment = {
            "POSTGRES_PASSWORD": PASSWORD,
            "REDIS_PASSWORD": PASSWORD,
            "DATASETS_DIR": str(folder),
            "API_PORT": str(self.port),
            "FLOWER_PORT": str(free_port()),
        }
        self.files = [FILE, self._own_code()] if self._is_missing("nightshift-api", "nightshift-worker-cpu") else [FILE]

    def _is_missing(self, *images: str) -> bool:
        try:
            self.engine("image", "inspect", *images)
        except EngineError:
            return True
        return False

    def _own_code(self) -> Path:
        """Return a file that lets the services run this checkout."""
        self.engine.make_image()
        environment = {
            "PYTHONPATH": str(ROOT),
            "HOME": "/tmp",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        }
        folders = [f"{path}:{place}" for path, place in machine().items()]
        ours = {"image": IMAGE, "environment": environment, "volumes": folders}
        path = self.folder / "own-code.yml"
        path.write_text(yaml.safe_dump({"services": dict.fromkeys(("migrate", *OURS), ours)}))
        return path

    def __call__(self, *arguments: str, files: tuple[Path, ...] = ()) -> None:
        command = [sys.executable, "-m", "podman_compose"] if self.is_podman else [self.engine.command, "compose"]
        command += ["--project-name", self.project]
        for path in (*self.files, *files):
            command += ["--file", str(path)]
        ended = subprocess.run(
            [*command, *arguments],
            env={**os.environ, **self.environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]

    def container(self, service: str) -> str:
        filters = (f"label=com.docker.compose.project={self.project}", f"label=com.docker.compose.service={service}")
        names = self.engine("ps", "-a", "--filter", filters[0], "--filter", filters[1], "--format", "{{.Names}}")
        [name] = names.split()
        return name

    def is_healthy(self, service: str) -> bool:
        name = self.container(service)
        if not self.is_podman:
            return self.engine("inspect", "--format", "{{.State.Health.Status}}", name) == "healthy"
        with suppress(EngineError):  # without systemd, Podman checks when it is asked
            self.engine("healthcheck", "run", name)
            return True
        return False

    def up(self) -> None:
        """Start all in two steps: Podman would let services wait for one that has ended already (`migrate`)."""
        self("up", "--detach", "--no-build", *SERVERS)
        for service in ("redis", "postgres"):
            eventually(f"{service} is healthy", lambda service=service: self.is_healthy(service))
        migrate = self.container("migrate")
        eventually("the migration has ended", lambda: self._ended_well(migrate))
        resets = "".join(f"  {name}: {{depends_on: !reset []}}\n" for name in OURS)
        (self.folder / "second.yml").write_text(f"services:\n{resets}")
        self("up", "--detach", "--no-build", *OURS, files=(self.folder / "second.yml",))

    def _ended_well(self, container: str) -> bool:
        state = self.engine("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", container)
        return state == "exited 0"

    def down(self) -> None:
        self("down", "--volumes", "--timeout", "5")


@pytest.fixture
def compose(containers: ContainerEngine, folder: Path) -> Iterator[Compose]:
    with _opened(Compose(containers, folder)) as compose:
        yield compose


@contextmanager
def _opened(compose: Compose) -> Iterator[Compose]:
    services: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    for name in ("redis", "postgres"):
        try:
            compose.engine("pull", "--quiet", services[name]["image"])
        except EngineError:
            if compose._is_missing(services[name]["image"]):
                pytest.skip(f"the image {services[name]['image']} is not here and cannot be pulled")
    try:
        yield compose
    finally:
        compose.down()


def test_all_services_become_healthy_and_a_job_survives_its_worker(compose: Compose) -> None:
    compose.up()
    for service in OURS:
        eventually(f"{service} is healthy", lambda service=service: compose.is_healthy(service))
    api = compose.container("api")
    key = compose.engine("exec", api, "nightshift", "keys", "create", "suite").split()[-1]
    headers, url = {"Authorization": f"Bearer {key}"}, f"http://127.0.0.1:{compose.port}/v1/jobs"
    spec = {**REAL, "training": {**REAL["training"], "epochs": 12}}
    job = f"{url}/{httpx.post(url, json=spec, headers=headers, timeout=60).json()['id']}"

    def now() -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(job, headers=headers, timeout=60).json()
        return found

    eventually("it trains", lambda: (now()["progress"] or {}).get("step", 0) > 30)
    worker = compose.container("worker-cpu")
    compose.engine("kill", worker)
    eventually("its worker has ended", lambda: "exited" in compose.engine("inspect", "-f", "{{.State.Status}}", worker))
    compose.engine("start", worker)
    eventually("it succeeds", lambda: now()["state"] == "succeeded", cap=600)
    attempts = httpx.get(f"{job}/attempts", headers=headers, timeout=60).json()["items"]
    assert sorted(attempt["outcome"] for attempt in attempts) == ["lost", "succeeded"]
