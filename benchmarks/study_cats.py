"""`cats-vs-dogs` on a folder of JPEGs of mixed sizes, created from the cats and dogs of CIFAR-10's binary files.

    python -m benchmarks.study_cats CIFAR10_FOLDER OUT [--framework torch] [--epochs 15] [--threads 2]

Every image is scaled to a random size (32 to 300 pixels per side, any aspect ratio), saved as JPEG below `train/cats`,
`test/dogs` and so on, registered as users register a folder, and used for training with `worker.run_job`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.stored import store
from benchmarks.study_finetune import run

LABELS = {3: "cats", 5: "dogs"}
RECORD, SIDE = 3073, 32


def write_pictures(source: Path, folder: Path) -> None:
    draw = np.random.default_rng(0)
    for path in sorted(source.glob("*.bin")):
        part = "test" if "test" in path.name else "train"
        for number, record in enumerate(np.fromfile(path, np.uint8).reshape(-1, RECORD)):
            if (label := LABELS.get(int(record[0]))) is None:
                continue
            pixels = record[1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)
            size = tuple(int(side) for side in draw.integers(SIDE, 300, 2))
            target = folder / part / label / f"{path.stem}-{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(target, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--framework", choices=("torch", "tensorflow"), default="torch")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    out: Path = given.out.resolve()
    if not (out / "pictures").exists():
        write_pictures(given.cifar10, out / "pictures")
    spec = {
        "kind": "train",
        "model": {"family": "cnn", "framework": given.framework, "preset": "cats-vs-dogs"},
        "dataset": "pets",
        "training": {"epochs": given.epochs, "augment": ["flip", "shift"]},
    }
    folder = out / given.framework
    result = run(folder, spec, store(out / "pictures", out / "datasets"), threads=given.threads)
    print(f"{folder}: {result['metrics']}")


if __name__ == "__main__":
    main()
