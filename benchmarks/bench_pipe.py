"""Cost of a job's reporting: steps of the learner alone, in the loop, and in the loop with the pipe to a supervisor.

    python -m benchmarks.bench_pipe [--threads 1] [--seconds 5] [--rounds 7] [--batch-sizes 32 256]

`loop` adds metric rows, progress, the resource sampler and the check for stop requests; `pipe` also sends all of it, as
a runner does, to a process that reads and parses every frame. Both are shares of the learner's own time, interleaved,
medians over the rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.bench_cnn import Data, make_data, our_loop, our_step, rate
from worker.families.cnn.family import CnnModel
from worker.runners.messages import decode_from_runner
from worker.runners.reporter import Channel, Reporter
from worker.training.numerics.allocator import keep_freed_memory


def listen(sock: socket.socket) -> None:
    for line in sock.makefile("rb"):
        decode_from_runner(line)


@contextmanager
def supervised() -> Iterator[Reporter]:
    ours, theirs = socket.socketpair()
    reader = multiprocessing.get_context("spawn").Process(target=listen, args=(theirs,), daemon=True)
    reader.start()
    theirs.close()
    channel = Channel(ours, on_end=lambda: None)
    channel.start()
    yield Reporter(channel)
    channel.close()
    reader.join()


def measure(model: CnnModel, batch_size: int, data: Data, given: argparse.Namespace, reporter: Any) -> str:
    ours = our_step(model, batch_size, data, given.threads)
    rates: list[tuple[float, float, float]] = []
    for _ in range(given.rounds):
        alone = rate(ours, batch_size, given.seconds)
        steps = max(20, int(given.seconds * alone / batch_size))
        looped, told = (our_loop(model, batch_size, data, given.threads, steps, to) for to in (None, reporter))
        rates.append((alone, looped, told))
    shown = " ".join(f"{statistics.median(column):>9.0f}" for column in zip(*rates, strict=True))
    shares = [statistics.median(one[0] / one[i] - 1 for one in rates) for i in (1, 2)]
    return f"{batch_size:>6} {shown} {shares[0]:>9.1%} {shares[1]:>9.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    model = CnnModel.model_validate({"preset": "mnist-3conv", "output": "softmax"})
    data = make_data(model)
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    print(f"mnist-3conv, {given.threads} threads, torch {torch.__version__}; samples/s, medians of {given.rounds}")
    print(f"{'batch':>6} {'learner':>9} {'loop':>9} {'pipe':>9} {'loop +':>9} {'pipe +':>9}")
    with supervised() as reporter:
        for batch_size in given.batch_sizes:
            print(measure(model, batch_size, data, given, reporter), flush=True)


if __name__ == "__main__":
    main()
