from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.redis import RedisServer, free_port


@pytest.mark.parametrize("module", ["worker.main", "worker.beat"])
def test_a_redis_cluster_is_refused_at_start(module: str, tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.start()
    try:
        environment = os.environ | {"NIGHTSHIFT_REDIS_URL": server.url, "NIGHTSHIFT_DATA_DIR": str(tmp_path)}
        refused = subprocess.run(
            [sys.executable, "-m", module], env=environment, capture_output=True, text=True, check=False
        )
    finally:
        server.kill()
    assert refused.returncode != 0
    assert "is a Redis Cluster: use one Redis or Valkey server" in refused.stderr
