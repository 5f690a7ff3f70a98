"""What GAN scores compare with is computed once per data set version; a stored one changes no score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nightshift.families.learner import Splits
from nightshift.testing.datasets import store_digits
from tests.support.training import CASES
from worker.families.gan import reference
from worker.families.gan.feature_extractor import FeatureExtractor, load_extractor
from worker.families.gan.reference import Reference, load_reference

FRAMEWORKS = ("torch", "tensorflow")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return CASES["gan-torch"].load_splits(store_digits(tmp_path_factory.mktemp("datasets")))


@pytest.fixture(params=FRAMEWORKS)
def extractor(request: pytest.FixtureRequest, splits: Splits) -> Iterator[FeatureExtractor]:
    """The extractor of the digits, without stored references before and after."""
    pytest.importorskip(request.param)
    found = load_extractor(splits, request.param, "cpu")
    assert found is not None
    yield found
    for path in files(found):
        path.unlink()


def files(extractor: FeatureExtractor) -> list[Path]:
    assert extractor.folder is not None
    return sorted(extractor.folder.glob("reference-*"))


def same(one: Reference, other: Reference) -> bool:
    """Return whether two references are equal bit for bit."""
    pairs = ((one.real.features, other.real.features), (one.real.reach, other.real.reach))
    return one.scores == other.scores and all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def test_a_stored_reference_is_the_computed_one_and_is_not_computed_again(
    splits: Splits, extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = load_reference(splits, replace(extractor, folder=None))
    assert not files(extractor)
    first = load_reference(splits, extractor)
    monkeypatch.setattr(reference, "_compute", lambda *_: pytest.fail("computed again"))
    assert same(first, computed)
    assert same(load_reference(splits, extractor), computed)


@pytest.mark.parametrize("damage", ["empty", "cut", "bit"])
def test_a_damaged_file_is_computed_and_written_again(splits: Splits, extractor: FeatureExtractor, damage: str) -> None:
    first = load_reference(splits, extractor)
    [path] = files(extractor)
    whole = path.read_bytes()
    flipped = bytes([*whole[:-1], whole[-1] ^ 1])
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "bit": flipped}[damage])
    assert same(load_reference(splits, extractor), first)
    assert path.read_bytes() == whole


def test_a_file_of_another_extractor_is_not_used(splits: Splits, extractor: FeatureExtractor) -> None:
    first = load_reference(splits, extractor)
    weights = extractor.learner.weights()
    extractor.learner.load_weights({name: array * 1.5 for name, array in weights.items()})
    assert not same(load_reference(splits, extractor), first)
    extractor.learner.load_weights(weights)
    assert same(load_reference(splits, extractor), first)


def test_a_file_of_other_images_is_not_used(splits: Splits, extractor: FeatureExtractor) -> None:
    """Jobs may hold out other rows of one data set version."""
    first = load_reference(splits, extractor)
    fewer = replace(splits, train={**splits.train, "x": splits.train["x"][100:]})
    found = load_reference(fewer, extractor)
    assert found.scores != first.scores
    assert same(found, load_reference(fewer, replace(extractor, folder=None)))
    assert same(load_reference(splits, extractor), first)
    assert len(files(extractor)) == 1
