"""Handwritten digits as they would come in day by day, for the example in docs/nightly.md.

    python docs/examples/nightly/days.py FOLDER

day-0.npz has 120 digits to learn from and 360 to be judged on; day-1.npz, day-2.npz and day-3.npz have 300 more each.
mislabelled.npz has 1,200 digits, every one labelled as the next.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

FIRST, JUDGED, DAILY, DAYS, MISLABELLED = 120, 360, 300, 3, 1200


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    order = np.random.default_rng(7).permutation(len(digits.target))
    images = np.rint(digits.images[order] * (255 / 16)).astype(np.uint8)
    labels = digits.target[order]
    train, judged = slice(0, FIRST), slice(FIRST, FIRST + JUDGED)
    np.savez(folder / "day-0.npz", x=images[train], y=labels[train], x_test=images[judged], y_test=labels[judged])
    for day in range(1, DAYS + 1):
        start = FIRST + JUDGED + (day - 1) * DAILY
        np.savez(folder / f"day-{day}.npz", x=images[start : start + DAILY], y=labels[start : start + DAILY])
    rows = np.arange(MISLABELLED) % FIRST
    np.savez(folder / "mislabelled.npz", x=images[rows], y=(labels[rows] + 1) % 10)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
