"""Download one of Keras's data sets into an `.npz`: `python -m worker.tensorflow_download mnist FILE.npz`.

A process of its own, so that whoever needs the files imports no framework. The last line of stderr says what failed.
Where the host they come from does not answer, it is known in moments: Keras, which takes long to import, is not asked.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

#: Where Keras takes each from, and what it calls it in its cache.
_SOURCES = {
    "mnist": ("https://storage.googleapis.com/", "mnist*"),
    "fashion_mnist": ("https://storage.googleapis.com/", "fashion-mnist*"),
    "cifar10": ("https://www.cs.toronto.edu/", "cifar-10*"),
}
#: How long that host may take to answer at all.
_ANSWER_SECONDS = 10.0


def main(name: str, target: str) -> int:
    if problem := _unreachable(name):
        print(problem, file=sys.stderr)
        return 1
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


def _unreachable(name: str) -> str | None:
    """Why nothing can be downloaded, or None. What Keras downloaded before needs no connection."""
    address, cached = _SOURCES[name]
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    if any((home / "datasets").glob(cached)):
        return None
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return None  # it answers
    except OSError as error:
        return f"{address} does not answer: {getattr(error, 'reason', error)}"
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
