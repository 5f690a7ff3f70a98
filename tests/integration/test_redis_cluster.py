from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import warm
from tests.support.redis import RedisServer, free_port


@pytest.mark.parametrize("module", ["worker.main", "worker.beat"])
def test_a_redis_cluster_is_refused_at_start(module: str, tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.start()
    try:
        environment = os.environ | {"NIGHTSHIFT_REDIS_URL": server.url, "NIGHTSHIFT_DATA_DIR": str(tmp_path)}
        refused = warm.run(module, environment=environment)
    finally:
        server.kill()
    assert refused.returncode != 0
    assert "points to a Redis Cluster; use a single Redis or Valkey server" in refused.stderr
