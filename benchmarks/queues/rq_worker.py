"""RQ's worker pool with torch imported before it forks, as RQ's documentation advises for heavy imports."""

from __future__ import annotations

import os

import redis
import torch._dynamo  # noqa: F401 - what the first optimizer imports, too; each job's process inherits it
from rq.worker_pool import WorkerPool

from benchmarks.queues import work

if __name__ == "__main__":
    WorkerPool(["bench"], connection=redis.Redis.from_url(work.url()), num_workers=os.cpu_count() or 1).start()
