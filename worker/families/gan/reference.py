"""What GAN scores compare with: real images of a data set, as its feature extractor sees them.

It is the same for all jobs on the same images and is kept beside the extractor, one file for each framework. A file
that is damaged, or that other images, another extractor, thread count or library version left, is computed and written
again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from nightshift.families.learner import Array, Splits
from shared.datasets.store import staging
from worker.families.gan.feature_extractor import FeatureExtractor
from worker.families.gan.scores import NEIGHBORS, Manifold, scores

#: Most images, real and generated each, that the final scores compare.
MAX_SCORED = 5000
#: Version of what a file holds; part of what it must have been computed from.
FORMAT = 1
#: Bytes of the hash that a file begins with.
HASH_BYTES = sha256().digest_size


@dataclass(frozen=True)
class Reference:
    """The test part, and how images of the training part score against it: the best possible with that many rows."""

    real: Manifold
    scores: Mapping[str, float]


def load_reference(splits: Splits, extractor: FeatureExtractor) -> Reference:
    """Return the stored reference of a data set with a test part, or compute it."""
    assert splits.test is not None
    test = spread(splits.test["x"], MAX_SCORED)
    train = spread(splits.train["x"], len(test))
    if extractor.folder is None:
        return _compute(extractor, test, train)
    origin = _origin(extractor, test, train)
    path = extractor.folder / f"reference-{extractor.learner.model.framework}.bin"
    reference = _read(path, origin)
    if reference is None:
        reference = _compute(extractor, test, train)
        _write(reference, path, origin)
    return reference


def spread(pictures: Any, most: int) -> Array:
    """Return at most `most` rows, evenly spaced (a set may be sorted by class)."""
    n = len(pictures)
    rows = np.linspace(0, n - 1, min(most, n)).round().astype(np.int64)
    if isinstance(pictures, np.ndarray):
        return np.asarray(pictures[rows])
    return np.concatenate([pictures[row : row + 1] for row in map(int, rows)])  # a view that is read in slices only


def _compute(extractor: FeatureExtractor, test: Array, train: Array) -> Reference:
    real = Manifold(extractor.features(test))
    return Reference(real, scores(real, extractor.features(train)))


def _origin(extractor: FeatureExtractor, test: Array, train: Array) -> bytes:
    """Return the hash of what a reference depends on."""
    learner = extractor.learner
    facts = [FORMAT, NEIGHBORS, str(learner.device), learner.state().facts, test.shape, train.shape]
    found = sha256(json.dumps(facts, sort_keys=True).encode())
    for name, array in sorted(learner.weights().items()):
        found.update(name.encode() + array.tobytes())
    for pictures in (test, train):
        found.update(np.ascontiguousarray(pictures).data)
    return found.digest()


# -- the file: a hash of origin and content, and the content --------------------------------------


def _write(reference: Reference, path: Path, origin: bytes) -> None:
    real = reference.real
    arrays = {name: np.array(value) for name, value in reference.scores.items()}
    content = save({"features": real.features, "reach": real.reach, **arrays})
    with staging(path.parent.parent) as aside:
        (aside / path.name).write_bytes(sha256(origin + content).digest() + content)
        (aside / path.name).replace(path)


def _read(path: Path, origin: bytes) -> Reference | None:
    """Return the stored reference; None if there is none, or none of this origin that is whole."""
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, content = stored[:HASH_BYTES], stored[HASH_BYTES:]
    if digest != sha256(origin + content).digest():
        return None
    arrays = load(content)
    real = Manifold(arrays.pop("features"), arrays.pop("reach"))
    return Reference(real, {name: value.item() for name, value in arrays.items()})
