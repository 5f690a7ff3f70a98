"""A data set larger than memory: registering and opening take as much memory for a big one as for a small one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.dataset_files import picture
from tests.support.paths import ROOT

#: Growth of the peak that is not the data: buffers of a few MB, imports.
ALLOWED_MB = 60
DATA_MB = 90

PROGRAM = """
import re, sys
from pathlib import Path
from shared.datasets import formats
from shared.datasets.ingest import tokens, vocabulary
from shared.datasets.ingest.build import ImageSource, store_images
from shared.datasets.ingest.build_text import store_text
from shared.datasets.ingest.source_files import open_files

def register(path):
    with open_files(path) as files:
        source = formats.read(files)
        store = store_images if isinstance(source, ImageSource) else store_text
        stored = store(Path(sys.argv[2]) / "datasets", source)
    if not isinstance(source, ImageSource):
        tokens.token_stream(stored.folder, vocabulary.TokenizerSpec("word", 1000))

small, big = Path(sys.argv[1]) / "small", Path(sys.argv[1]) / "big"
for path in (small, big):
    register(next(path.iterdir()) if len(list(path.iterdir())) == 1 else path)
    # Not ru_maxrss: a process inherits that from the one that started it.
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def growth_mb(folder: Path) -> float:
    """Peak memory (MB) that registering `big` needed above what registering `small` did, in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    small, big = map(float, done.stdout.split())
    print(f"{small:.0f} MB for the small one, {big:.0f} MB for the big one")
    return big - small


def parts(folder: Path) -> tuple[tuple[Path, int], tuple[Path, int]]:
    for name in ("small", "big"):
        (folder / name).mkdir()
    return (folder / "small", 1), (folder / "big", DATA_MB)


def test_text(tmp_path: Path) -> None:
    words = " ".join(f"word{n}" for n in np.random.default_rng(0).integers(0, 5000, 1000)) + "\n\n"
    for folder, size in parts(tmp_path):
        with (folder / "text.txt").open("w") as file:
            for _ in range(size * 1_000_000 // len(words)):
                file.write(words)
    assert growth_mb(tmp_path) < ALLOWED_MB


def test_a_text_that_is_one_line(tmp_path: Path) -> None:
    for folder, size in parts(tmp_path):
        with (folder / "text.txt").open("w") as file:
            for _ in range(size // 2 + 1):  # two thirds of what is allowed, held once as bytes and once as text
                file.write("lorem ipsum " * 83_000)
    assert growth_mb(tmp_path) < ALLOWED_MB


def test_arrays(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000), np.uint8)
    for folder, size in parts(tmp_path):
        np.savez(folder / "set.npz", x=np.tile(noise, (size, 1)).reshape(-1, 25, 40), y=np.arange(size * 1000) % 10)
    assert growth_mb(tmp_path) < ALLOWED_MB


@pytest.mark.slow
def test_pictures(tmp_path: Path) -> None:
    """600 images of 150 kB each, decoded."""
    for folder, size in parts(tmp_path):
        for number in range(6 if size == 1 else 600):
            file = folder / ("cats", "dogs")[number % 2] / f"{number}.png"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(picture((224, 224), (number % 256, 0, 0), "PNG"))
    assert growth_mb(tmp_path) < ALLOWED_MB


APPEND = """
import re, sys
from pathlib import Path
import numpy as np
from shared.datasets.ingest.append import store_appended
from shared.datasets.ingest.build import ImageSource, ImageSplit, store_images
from shared.datasets.store import open_dataset

def source(megabytes):
    chunks = lambda: (np.full((100, 100, 100, 1), n, np.uint8) for n in range(megabytes))
    return ImageSource(["a", "b"], (100, 100, 1), {"train": ImageSplit(np.arange(100 * megabytes) % 2, chunks)})

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000

root = Path(sys.argv[1])
small, big = (open_dataset(store_images(root, source(n)).folder) for n in (2, int(sys.argv[2])))
store_appended(root, small, source(1))
print(peak())
store_appended(root, big, source(1))
print(peak())
"""


def test_appending_to_a_big_set_holds_none_of_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPEND, str(tmp_path), str(DATA_MB)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    small, big = map(float, done.stdout.split())
    assert big - small < ALLOWED_MB
