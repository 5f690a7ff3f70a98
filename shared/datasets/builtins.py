"""Built-in data sets: `digits` is part of the package, the others are read from local files or downloaded.

`mnist`, `fashion_mnist` and `cifar10` are read from `NIGHTSHIFT_DATASETS_DIR` if their files are present; otherwise
Keras downloads them in a separate process, so that neither this process nor its parents import a framework.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from nightshift.errors import InvalidRequest, RequestError
from nightshift.names import IMAGE, Availability
from shared.datasets import formats
from shared.datasets.formats import cifar
from shared.datasets.ingest.build import Images, ImageSource, ImageSplit
from shared.datasets.ingest.source_files import open_files
from shared.datasets.store import staging
from shared.errors import DatasetUnavailable
from shared.lazy_numpy import np
from shared.settings import Settings

#: Names of the classes where the files hold numbers only.
CLASSES = {
    "mnist": [str(digit) for digit in range(10)],
    "fashion_mnist": ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                      "Ankle boot"],
    "cifar10": cifar.CLASSES,
}  # fmt: skip
BUILTIN = ("digits", *CLASSES)
#: The kind of all of them.
BUILTIN_KIND = IMAGE
#: Built-in sets that are part of the package: the first request that names one registers it, in milliseconds.
AT_ONCE = frozenset({"digits"})

_FOLDER = {"mnist": "mnist", "fashion_mnist": "fashion-mnist", "cifar10": "cifar10"}
_FORMAT = {"mnist": "idx", "fashion_mnist": "idx", "cifar10": "cifar10"}
_IDX_FILES = (
    "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz"
)
_FILES = {
    "mnist": _IDX_FILES,
    "fashion_mnist": _IDX_FILES,
    "cifar10": "data_batch_1.bin … data_batch_5.bin, test_batch.bin (unpacked from cifar-10-binary.tar.gz)",
}
#: Timeout of a download (seconds); CIFAR-10 has 170 MB.
_DOWNLOAD_SECONDS = 1800.0

_DIGITS = Path(__file__).with_name("digits.csv.gz")


def availability(settings: Settings, name: str) -> Availability:
    """Return the availability of an unregistered built-in set on this host; a worker's host may differ."""
    with suppress(RequestError, OSError):  # an unreadable folder counts as one without files
        if name in AT_ONCE or _published(settings, name):
            return "on_first_use"
    return "needs_download" if settings.dataset_downloads == "auto" else "unavailable"


def way_out(settings: Settings, name: str) -> str:
    """Return the instructions for registering a built-in set without a download."""
    folder, files = _FOLDER[name], _FILES[name]
    put = f"put {files} into {settings.datasets_dir}/{folder}/"
    if settings.datasets_dir is None:
        put = f"set NIGHTSHIFT_DATASETS_DIR to a folder with {files} in its {folder}/"
    return f"Register them once: nightshift datasets add {name} FOLDER. Or {put}"


@contextmanager
def source(settings: Settings, name: str) -> Iterator[ImageSource]:
    """Open the images of a built-in set.

    Raises DatasetUnavailable, with instructions, if its files are neither present nor downloadable.
    """
    if name == "digits":
        yield digits()
        return
    published = _published(settings, name)
    if published:
        with open_files(published) as files:
            yield named(formats.read(files, _FORMAT[name]), name)
        return
    if settings.dataset_downloads == "never":
        why = "has no files on this host, and NIGHTSHIFT_DATASET_DOWNLOADS is set to never"
        raise DatasetUnavailable(name, why, way_out(settings, name))
    with staging(settings.storage_root / "datasets") as folder:
        target = folder / f"{name}.npz"
        _download(settings, name, target)
        with open_files(target) as files:
            yield named(formats.read(files, "npz"), name)


def named(source: formats.Source, name: str) -> ImageSource:
    """Return `source` with the class names of a built-in set in place of numbers.

    Raises InvalidRequest unless it holds images of as many classes.
    """
    classes = CLASSES[name]
    if not isinstance(source, ImageSource) or len(source.classes) != len(classes):
        raise InvalidRequest.field(
            ("name",), f"{name!r} is reserved for images of {len(classes)} classes; choose another name"
        )
    return replace(source, classes=classes)


def _published(settings: Settings, name: str) -> Path | None:
    folder = settings.datasets_dir / _FOLDER[name] if settings.datasets_dir else None
    if folder is None or not folder.is_dir():
        return None
    with open_files(folder) as files:
        return folder if formats.detect(files) == _FORMAT[name] else None


def _download(settings: Settings, name: str, target: Path) -> None:
    command = [sys.executable, "-m", "worker.tensorflow_download", name, str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False)
        problem = (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else None
    except subprocess.TimeoutExpired:
        problem = f"it took longer than {_DOWNLOAD_SECONDS:.0f} seconds"
    if problem:
        raise DatasetUnavailable(name, f"could not be downloaded ({problem[:300]})", way_out(settings, name))


def digits() -> ImageSource:
    """Return scikit-learn's 1,797 handwritten digits, 8x8, pixels scaled from 0 … 16 to 0 … 255.

    License: digits.LICENCE.txt.
    """
    with gzip.open(_DIGITS, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)

    def chunks() -> Iterator[Images]:
        yield images

    return ImageSource([str(digit) for digit in range(10)], (8, 8, 1), {"train": ImageSplit(table[:, 64], chunks)})
