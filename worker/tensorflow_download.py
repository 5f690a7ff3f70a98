"""Download one of Keras's data sets: `python -m worker.tensorflow_download mnist FILE.npz`.

It is a process of its own so that its caller imports no framework. The last line of stderr is the error. If the host
does not answer, it fails within seconds, without importing Keras, which is slow.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

#: The host that Keras downloads each from, and the pattern of its files in Keras's cache.
_SOURCES = {
    "mnist": ("https://storage.googleapis.com/", "mnist*"),
    "fashion_mnist": ("https://storage.googleapis.com/", "fashion-mnist*"),
    "cifar10": ("https://www.cs.toronto.edu/", "cifar-10*"),
}
#: Most seconds for a response of that host.
_ANSWER_SECONDS = 10.0


def main(name: str, target: str) -> int:
    """Download the data set into the file `target`, and return the exit code."""
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
    except Exception as error:  # Keras and urllib raise various errors without a connection
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        return 1
    np.savez(target, x=x, y=y, x_test=x_test, y_test=y_test)
    return 0


def _unreachable(name: str) -> str | None:
    """Return why the data set cannot be downloaded, or None. A copy in Keras's cache needs no connection."""
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
