"""Names, versions and content of data sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine
from sqlmodel import SQLModel

from shared.datasets import registry
from shared.datasets.building import ImageSource, ImageSplit, store_images, stratified_test_rows
from shared.datasets.store import Stored, open_dataset, sweep
from shared.db.engine import make_engine, read
from shared.errors import InvalidRequest, NotFound
from shared.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, _env_file=None)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path}/test.db")
    SQLModel.metadata.create_all(engine)
    yield engine
    engine.dispose()


def source(seed: int = 0, rows: int = 50, classes: int = 3) -> ImageSource:
    random = np.random.default_rng(seed)
    labels = np.arange(rows, dtype=np.int64) % classes
    images = random.integers(0, 256, (rows, 4, 5, 1), np.uint8)
    images[:, 0, 0, 0] = labels  # so that a test sees whether labels stay with their images
    halves = lambda: iter([images[:20], images[20:]])  # noqa: E731
    return ImageSource([f"class {n}" for n in range(classes)], (4, 5, 1), {"train": ImageSplit(labels, halves)})


def store(settings: Settings, seed: int = 0) -> Stored:
    return store_images(settings.storage_root / "datasets", source(seed))


def test_digits_are_registered_once_with_a_stratified_split(engine: Engine, settings: Settings) -> None:
    version = registry.ensure_builtin(engine, settings, "digits")
    again = registry.ensure_builtin(engine, settings, "digits")
    assert (version.version, version.sha256) == (1, again.sha256)

    digits = open_dataset(registry.dataset_folder(settings, version))
    assert digits.image == (8, 8, 1)
    assert digits.count("train") + digits.count("test") == 1797
    assert digits.x("train").shape == (digits.count("train"), 8, 8, 1)
    assert digits.x("train").max() == 255
    train, test = digits.meta["splits"]["train"]["classes"], digits.meta["splits"]["test"]["classes"]
    for name in digits.classes:
        assert test[name] == round(0.2 * (train[name] + test[name]))


def test_digits_have_the_same_version_everywhere(engine: Engine, settings: Settings) -> None:
    """Changing the stored form or the split changes every user's versions: then FORMAT must go up too."""
    version = registry.ensure_builtin(engine, settings, "digits")
    assert version.sha256 == "922df4f63e2ed484d96c1016bb9247dfe7d636ad38b37f6ded28e5d2c2c0d2ad"


def test_labels_stay_with_their_images(settings: Settings) -> None:
    data = open_dataset(store(settings).folder)
    for split in data.splits:
        assert np.array_equal(data.x(split)[:, 0, 0, 0], data.y(split))


def test_same_content_is_one_version_and_new_content_the_next(engine: Engine, settings: Settings) -> None:
    first = registry.enter(engine, "shapes", store(settings))
    again = registry.enter(engine, "shapes", store(settings))
    second = registry.enter(engine, "shapes", store(settings, seed=1))
    assert (first.version, again.version, second.version) == (1, 1, 2)
    with read(engine) as conn:
        assert registry.resolve(conn, "shapes").sha256 == second.sha256
        assert registry.resolve(conn, "shapes@1").sha256 == first.sha256
        assert [v["version"] for v in registry.show(conn, "shapes")["versions"]] == [1, 2]
        assert [(d["name"], d["version"]) for d in registry.list_datasets(conn)] == [("shapes", 2)]


def test_two_names_may_share_content(engine: Engine, settings: Settings) -> None:
    one, two = registry.enter(engine, "one", store(settings)), registry.enter(engine, "two", store(settings))
    assert one.sha256 == two.sha256
    assert len(list((settings.storage_root / "datasets").iterdir())) == 1


@pytest.mark.parametrize(
    ("ref", "says"),
    [("nope", "digits, fashion_mnist"), ("shapes@2", "versions 1"), ("shapes@x", "number"), ("shapes@", "number")],
)
def test_unknown_names_say_what_there_is(engine: Engine, settings: Settings, ref: str, says: str) -> None:
    registry.enter(engine, "shapes", store(settings))
    with read(engine) as conn, pytest.raises(NotFound, match=says.replace("(", r"\(")):
        registry.resolve(conn, ref)


def test_a_name_keeps_its_kind(engine: Engine, settings: Settings) -> None:
    stored = store(settings)
    registry.enter(engine, "shapes", stored)
    with pytest.raises(InvalidRequest, match="holds image data"):
        registry.enter(engine, "shapes", Stored(stored.sha256, stored.folder, {**stored.meta, "kind": "text"}))


def test_the_split_depends_on_labels_only_and_keeps_one_row_of_each_class() -> None:
    labels = np.array([0] * 10 + [1] * 2 + [2], np.int64)
    chosen = stratified_test_rows(labels)
    assert np.array_equal(chosen, stratified_test_rows(labels))
    assert [int(chosen[labels == label].sum()) for label in range(3)] == [2, 1, 0]


def test_one_class_and_no_rows_are_refused(settings: Settings) -> None:
    root = settings.storage_root / "datasets"
    with pytest.raises(InvalidRequest, match="one class only"):
        store_images(root, source(classes=1))
    with pytest.raises(InvalidRequest, match="no rows"):
        store_images(root, source(rows=0))


def test_a_reader_that_fails_leaves_nothing(settings: Settings) -> None:
    root = settings.storage_root / "datasets"

    def broken() -> Iterator[np.ndarray]:
        yield np.zeros((20, 4, 5, 1), np.uint8)
        raise InvalidRequest.field(("file",), "the rest is missing")

    labels = np.arange(50, dtype=np.int64) % 2
    with pytest.raises(InvalidRequest, match="the rest is missing"):
        store_images(root, ImageSource(["a", "b"], (4, 5, 1), {"train": ImageSplit(labels, broken)}))
    assert list(root.iterdir()) == []


def test_sweeping_spares_live_builders_and_takes_dead_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.datasets.store import staging

    monkeypatch.setattr("shared.datasets.store._YOUNG", -1.0)
    (tmp_path / ".tmp-dead").mkdir()
    (tmp_path / ".tmp-dead.lock").touch()
    with staging(tmp_path) as live:
        assert sweep(tmp_path) == 1
        assert live.is_dir()
        assert not (tmp_path / ".tmp-dead").exists()
    assert list(tmp_path.iterdir()) == []
