"""Names, versions and content of data sets."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine

from nightshift.errors import InvalidRequest, NotFound
from shared.datasets import formats, registry, views
from shared.datasets.builtins import named
from shared.datasets.ingest.build import ImageSource, ImageSplit, store_images, stratified_test_rows
from shared.datasets.ingest.build_text import store_text
from shared.datasets.ingest.source_files import open_files
from shared.datasets.previews import sample_picture, sample_texts
from shared.datasets.store import Stored, open_dataset, sweep
from shared.db.engine import read
from shared.errors import DatasetUnavailable
from shared.settings import Settings
from tests.support.dataset_files import idx, labelled_images
from tests.support.paths import ROOT
from tests.support.redis import free_port
from worker import tensorflow_download


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, _env_file=None)


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
        assert [v["version"] for v in views.show(conn, "shapes")["versions"]] == [1, 2]
        assert [(d["name"], d["version"]) for d in views.list_datasets(conn)] == [("shapes", 2)]


def test_two_names_may_share_content(engine: Engine, settings: Settings) -> None:
    one, two = registry.enter(engine, "one", store(settings)), registry.enter(engine, "two", store(settings))
    assert one.sha256 == two.sha256
    assert len(list((settings.storage_root / "datasets").iterdir())) == 1


@pytest.mark.usefixtures("long_database_timeouts")
def test_registrations_at_the_same_time_get_different_numbers(engine: Engine, settings: Settings) -> None:
    stored = [store(settings, seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(lambda one: registry.enter(engine, "shapes", one), stored))
    assert sorted(version.version for version in versions) == [1, 2, 3, 4, 5, 6]


def test_content_whose_folder_is_gone_is_stored_again(engine: Engine, settings: Settings) -> None:
    version = registry.ensure_builtin(engine, settings, "digits")
    shutil.rmtree(registry.dataset_folder(settings, version))
    again = registry.ensure_builtin(engine, settings, "digits")
    assert again.version == version.version
    assert (
        open_dataset(registry.dataset_folder(settings, again)).count("train")
        == version.summary["splits"]["train"]["count"]
    )


def test_built_in_sets_come_from_the_published_files(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "published" / "fashion-mnist"
    folder.mkdir(parents=True)
    for stem, rows in (("train", 40), ("t10k", 20)):
        images, labels = labelled_images(rows, (28, 28), classes=10)
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    settings = Settings(data_dir=tmp_path / "data", datasets_dir=tmp_path / "published", _env_file=None)
    version = registry.ensure_builtin(engine, settings, "fashion_mnist")
    assert version.summary["classes"][9] == "Ankle boot"
    with read(engine) as conn:
        assert views.show(conn, "fashion_mnist")["builtin"]
    registered = registry.register(engine, settings, "fashion_mnist", folder)
    assert (registered.version, registered.sha256) == (1, version.sha256)


def test_a_download_that_fails_says_what_to_do(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nno route to host\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    told = r"cifar10 .*no route to host.*datasets add cifar10.*NIGHTSHIFT_DATASETS_DIR.*data_batch_1\.bin.*cifar10/"
    with pytest.raises(DatasetUnavailable, match=told):
        registry.ensure_builtin(engine, settings, "cifar10")
    assert list((settings.storage_root / "datasets").iterdir()) == []
    offline = settings.model_copy(update={"dataset_downloads": "never", "datasets_dir": Path("/srv/sets")})
    with pytest.raises(DatasetUnavailable, match=r"DOWNLOADS is set to never.*t10k-images.* into /srv/sets/mnist/"):
        registry.ensure_builtin(engine, offline, "mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_a_host_that_does_not_answer_is_known_without_keras(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The way to every host leads through a port that refuses connections."""
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "keras", None)
    assert tensorflow_download.main(name, str(tmp_path / "set.npz")) == 1
    assert "does not answer" in capsys.readouterr().err


def test_the_download_is_one_keras_call(tmp_path: Path) -> None:
    """The download's process itself, with a Keras that holds the data set already."""
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text(
        "import numpy as np\n"
        "class datasets:\n"
        "    class mnist:\n"
        "        def load_data():\n"
        "            x = np.zeros((20, 28, 28), np.uint8)\n"
        "            return (x, np.arange(20) % 10), (x, np.arange(20) % 10)\n"
    )
    root = ROOT
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{root}", "KERAS_HOME": str(tmp_path)}
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mnist.npz").touch()  # it needs no connection
    command = [sys.executable, "-m", "worker.tensorflow_download", "mnist", str(tmp_path / "mnist.npz")]
    subprocess.run(command, env=environment, check=True, cwd=tmp_path)
    with open_files(tmp_path / "mnist.npz") as files:
        source = named(formats.read(files), "mnist")
    assert len(source.splits["test"].labels) == 20


def test_a_look_at_images_and_texts(settings: Settings, tmp_path: Path) -> None:
    picture = Image.open(io.BytesIO(sample_picture(store(settings).folder)))
    assert (picture.format, picture.mode) == ("PNG", "L")
    assert picture.size == (
        10 * (5 * 12 + 2) + 2,
        3 * (4 * 12 + 2) + 2,
    )  # 3 classes, 10 images of each, 12 times as large
    (tmp_path / "play.txt").write_text("first\n\nsecönd\n\nthird\n\nfourth\n\nfifth")
    with open_files(tmp_path / "play.txt") as files:
        text = store_text(settings.storage_root / "datasets", formats.read(files))  # type: ignore[arg-type]
    assert sample_texts(text.folder, count=2, length=5) == ["first", "secön"]


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("nope", "digits, fashion_mnist"),
        ("shapes@2", "Versions of .shapes.: 1"),
        ("shapes@x", "number"),
        ("shapes@", "number"),
    ],
)
def test_unknown_names_say_what_there_is(engine: Engine, settings: Settings, ref: str, says: str) -> None:
    registry.enter(engine, "shapes", store(settings))
    with read(engine) as conn, pytest.raises(NotFound, match=says):
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
    with pytest.raises(InvalidRequest, match="only one class"):
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


def test_what_a_killed_builder_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.datasets.store._YOUNG", -1.0)
    program = (
        "import pathlib, sys; from shared.datasets.store import staging\n"
        "with staging(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch(); print('building', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"building\n"
        assert sweep(tmp_path) == 0
        builder.kill()
        builder.wait()
    assert len(list(tmp_path.iterdir())) == 2  # the folder and its lock
    assert sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_sweeping_minds_no_folder_that_is_gone_when_it_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another builder's, which was renamed into its place meanwhile."""
    (tmp_path / ".tmp-renamed").mkdir()
    (tmp_path / "renamed").mkdir()
    scandir = os.scandir

    def gone(path: Any = ".") -> Any:
        if str(path).endswith("renamed"):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", gone)
    assert sweep(tmp_path) == 0


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
