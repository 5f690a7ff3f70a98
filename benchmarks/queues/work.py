"""The jobs: nothing, a first training step, and one that waits. Each leaves a mark in Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import redis

REDIS = "BENCH_QUEUES_REDIS"
#: Redis lists on which jobs leave the time.
DONE, STEPPED, BEGAN = "bench:done", "bench:stepped", "bench:began"
STEP = "from benchmarks.queues.work import train_step; train_step()"


def url() -> str:
    """Return the URL of the server that the benchmark started."""
    return os.environ[REDIS]


def _mark(name: str) -> None:
    _connection().rpush(name, repr(time.time()))


_connected: list[tuple[int, Any]] = []


def _connection() -> Any:
    """Return this process's connection, not one that its parent opened."""
    if not _connected or _connected[-1][0] != os.getpid():
        _connected.append((os.getpid(), redis.Redis.from_url(url())))
    return _connected[-1][1]


def nothing() -> None:
    """Do nothing, and say when."""
    _mark(DONE)


def train_step() -> None:
    """Train a small CNN for one step, in this process."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    net = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 169, 10))
    optimizer = torch.optim.Adam(net.parameters())
    loss = nn.functional.cross_entropy(net(torch.rand(32, 1, 28, 28)), torch.randint(0, 10, (32,)))
    loss.backward()
    optimizer.step()
    _mark(STEPPED)


def train_step_apart() -> None:
    """Train for one step in a new process, where the task queue does not isolate its jobs."""
    subprocess.run([sys.executable, "-c", STEP], check=True)


def wait() -> None:
    """Say that it began, and wait to be killed."""
    _mark(BEGAN)
    time.sleep(3600)


JOBS = {"nothing": nothing, "train_step": train_step, "train_step_apart": train_step_apart, "wait": wait}
