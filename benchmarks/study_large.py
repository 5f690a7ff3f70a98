"""Time and memory for a million images, or a text of ten gigabytes, through the whole stack.

    python -m benchmarks.study_large images MNIST_FOLDER OUT [--count 1000000]
    python -m benchmarks.study_large text   TEXT_FILE    OUT [--gigabytes 10]

images: class folders of PNGs of MNIST's digits, each shifted by a few pixels. text: the lines of TEXT_FILE repeatedly,
each time in another order. `nightshift up` with one worker runs below OUT; the data set is added with the command line,
as users do, and a small model trains for a few steps. Every second the memory of each process is read (its own pages,
not those of mapped files, which the kernel can drop).
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

CLI = [sys.executable, "-m", "nightshift.cli.app"]
STEPS = {"training.epochs": 1, "training.max_steps": 30, "training.validation_split": 0}
MODELS = {
    "images": ["cnn", "--preset", "mnist-1conv"],
    "text": ["gru_lm", "--set", "model.units=[64]", "--set", "model.embedding=64"],
}
_SMALL_PART = 1000


class Memory(threading.Thread):
    """The highest anonymous memory (MB) of a process and each of its descendants, by program."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peaks, self.done = psutil.Process(root), {"in all": 0.0}, threading.Event()

    def run(self) -> None:
        while not self.done.wait(1):
            total = 0.0
            with contextlib.suppress(psutil.Error):
                for process in self.root.children(recursive=True):
                    total += self.look(process)
            self.peaks["in all"] = max(self.peaks["in all"], total)

    def look(self, process: psutil.Process) -> float:
        try:
            name = " ".join(process.cmdline()[:4])[-60:] or process.name()
            status = Path(f"/proc/{process.pid}/status").read_text()
        except (psutil.Error, OSError):
            return 0.0
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        own = int(found[1]) / 1000 if found else 0.0
        self.peaks[name] = max(self.peaks.get(name, 0.0), own)
        return own

    def restart(self) -> dict[str, float]:
        """Return the peaks since the last call."""
        found, self.peaks = self.peaks, {"in all": 0.0}
        return found


@contextlib.contextmanager
def stack(data: Path) -> Iterator[subprocess.Popen[str]]:
    os.environ["NIGHTSHIFT_DATA_DIR"] = str(data)
    command = [*CLI, "up", "--data-dir", str(data), "--port", "0", "--flower-port", "0", "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = next(line for line in process.stdout if line.startswith("ready:"))
        os.environ["NIGHTSHIFT_API_URL"] = ready.split("api=")[1].split()[0]
        yield process
    finally:
        process.terminate()
        process.wait()


def pictures(source: Path, folder: Path, count: int) -> None:
    with (
        gzip.open(source / "train-images-idx3-ubyte.gz") as images,
        gzip.open(source / "train-labels-idx1-ubyte.gz") as y,
    ):
        pixels = np.frombuffer(images.read(), np.uint8, offset=16).reshape(-1, 28, 28)
        labels = np.frombuffer(y.read(), np.uint8, offset=8)
    for label in range(10):
        for part in ("train", "test"):
            (folder / part / str(label)).mkdir(parents=True, exist_ok=True)

    def write(number: int) -> None:
        part = "test" if number < _SMALL_PART else "train"
        moves = np.random.default_rng(number).integers(-3, 4, 2)
        moved = np.roll(pixels[number % len(pixels)], tuple(moves), axis=(0, 1))
        Image.fromarray(moved).save(
            folder / part / str(labels[number % len(labels)]) / f"{number}.png", compress_level=1
        )

    with ThreadPoolExecutor(4) as pool:
        for start in range(0, count, 10_000):
            list(pool.map(write, range(start, min(count, start + 10_000))))


def text(source: Path, folder: Path, size: int) -> None:
    read = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    lines = read.splitlines(keepends=True)
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("valid", "test"):
        (folder / f"{part}.txt").write_bytes(b"".join(lines[:_SMALL_PART]))
    chance, written = np.random.default_rng(0), 0
    with (folder / "train.txt").open("wb") as file:
        while written < size:
            written += file.write(b"".join(lines[int(row)] for row in chance.permutation(len(lines))))


def said(what: str, seconds: float, peaks: dict[str, float]) -> None:
    print(f"{what}: {seconds:.0f} s; peak memory in MB:", flush=True)
    for name, peak in sorted(peaks.items(), key=lambda item: -item[1]):
        if peak >= 50:
            print(f"    {peak:8.0f}  {name}", flush=True)


def timed(memory: Memory, what: str, *arguments: str) -> None:
    memory.restart()
    started = time.monotonic()
    process = subprocess.Popen([*CLI, *arguments], stdout=subprocess.DEVNULL)
    client = psutil.Process(process.pid)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, memory.look(client))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{what}: exit code {process.returncode}")
    said(what, time.monotonic() - started, memory.restart() | {"command line": peak})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("kind", choices=("images", "text"))
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--gigabytes", type=float, default=10)
    given = parser.parse_args()
    folder: Path = given.out.resolve() / given.kind
    if not folder.exists():
        started = time.monotonic()
        if given.kind == "images":
            pictures(given.source, folder, given.count)
        else:
            text(given.source, folder, int(given.gigabytes * 1e9))
        print(f"made: {time.monotonic() - started:.0f} s", flush=True)
    with stack(given.out.resolve() / f"{given.kind}-data") as process:
        memory = Memory(process.pid)
        memory.start()
        timed(memory, "registered", "datasets", "add", "large", str(folder))
        settings = [part for name, value in STEPS.items() for part in ("--set", f"{name}={value}")]
        job = ["submit", "train", *MODELS[given.kind], "--dataset", "large", *settings, "--follow"]
        timed(memory, "trained for a few steps", *job)
        timed(memory, "and again", *job)
        memory.done.set()


if __name__ == "__main__":
    main()
