"""Download one of Keras's data sets into an `.npz`: `python -m worker.tensorflow_download mnist FILE.npz`.

A process of its own, so that whoever needs the files imports no framework. The last line of stderr says what failed.
"""

from __future__ import annotations

import os
import sys

import numpy as np


def main(name: str, target: str) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    try:
        from keras import datasets
    except ImportError:
        print("Keras is not installed here: pip install 'nightshift[tensorflow]'", file=sys.stderr)
        return 1
    try:
        (x, y), (x_test, y_test) = getattr(datasets, name).load_data()
    except Exception as error:  # whatever Keras and urllib raise without a connection
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        return 1
    np.savez(target, x=x, y=y, x_test=x_test, y_test=y_test)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
