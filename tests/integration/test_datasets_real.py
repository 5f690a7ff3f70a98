"""Real data sets, as users bring them: MNIST, CIFAR-10, cats and dogs as JPEG folders, Shakespeare, WikiText-2,
TREC."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine

from nightshift.errors import InvalidRequest
from shared.datasets import registry
from shared.datasets.ingest.tokens import open_tokens, token_stream
from shared.datasets.ingest.vocabulary import TokenizerSpec
from shared.datasets.store import OpenDataset, open_dataset
from shared.settings import Settings

Register = Callable[[str, Path], OpenDataset]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", _env_file=None)


@pytest.fixture
def register(sqlite_engine: Engine, settings: Settings) -> Register:
    def register(name: str, path: Path) -> OpenDataset:
        version = registry.register(sqlite_engine, settings, name, path)
        return open_dataset(registry.dataset_folder(settings, version))

    return register


def test_mnist_is_the_same_by_name_and_by_folder(
    sqlite_engine: Engine, settings: Settings, test_data: Path, register: Register
) -> None:
    by_folder = register("my-mnist", test_data / "mnist")
    assert (by_folder.count("train"), by_folder.count("test"), by_folder.image) == (60_000, 10_000, (28, 28, 1))
    assert by_folder.meta["splits"]["train"]["classes"]["1"] == 6742
    assert round(by_folder.x("train").mean() / 255, 4) == 0.1307  # the mean everybody normalises with
    published = settings.model_copy(update={"datasets_dir": test_data})
    by_name = registry.ensure_builtin(sqlite_engine, published, "mnist")
    assert by_name.sha256 == by_folder.folder.name


def test_cifar10_subset(test_data: Path, register: Register) -> None:
    data = register("cifar", test_data / "cifar10-subset")
    assert (data.count("train"), data.count("test"), data.image) == (4_000, 1_000, (32, 32, 3))
    raw = np.fromfile(test_data / "cifar10-subset" / "test_1000.bin", np.uint8).reshape(-1, 3073)
    assert np.array_equal(data.x("test")[7, 2, 5], raw[7, 1:].reshape(3, 32, 32)[:, 2, 5])


def test_cats_and_dogs_as_jpegs_of_mixed_sizes(tmp_path: Path, test_data: Path, register: Register) -> None:
    raw = np.fromfile(test_data / "cifar10-subset" / "test_1000.bin", np.uint8).reshape(-1, 3073)
    count = 0
    for label, name in ((3, "cat"), (5, "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number, record in enumerate(raw[raw[:, 0] == label]):
            image = Image.fromarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0))
            size = (40 + 3 * (number % 20), 60 + number % 7)
            image.resize(size).save(tmp_path / "pets" / name / f"{number}.jpg", quality=95)
            count += 1
    data = register("pets", tmp_path / "pets")
    assert (data.classes, data.count("train") + data.count("test")) == (["cat", "dog"], count)
    sides = [max(40 + 3 * (n % 20), 60 + n % 7) for label in (3, 5) for n in range(int((raw[:, 0] == label).sum()))]
    assert data.image == (sorted(sides)[count // 2], sorted(sides)[count // 2], 3)
    file = data.ids("test")[0].decode()  # type: ignore[index]
    original = raw[raw[:, 0] == 3][int(file.split("/")[1].removesuffix(".jpg")), 1:].reshape(3, 32, 32)
    assert file.startswith("cat/")
    assert np.abs(data.x("test")[0].mean((0, 1)) - original.mean((1, 2))).max() < 5


def test_tiny_shakespeare(test_data: Path, register: Register) -> None:
    data = register("shakespeare", test_data / "tinyshakespeare" / "input.txt")
    stream = open_tokens(token_stream(data.folder, TokenizerSpec("char", 1000)))
    assert stream.vocabulary == 65 + 1
    assert len(stream.tokens("train")) + len(stream.tokens("test")) == 1_115_394
    speeches = list(data.documents("train"))
    assert speeches[0] == "First Citizen:\nBefore we proceed any further, hear me speak.\n\n"


def test_wikitext_2_has_the_published_counts(tmp_path: Path, test_data: Path, register: Register) -> None:
    data = register("wikitext-2", test_data / "wikitext2")
    with zipfile.ZipFile(tmp_path / "wikitext.zip", "w") as archive:
        for file in (test_data / "wikitext2").iterdir():
            archive.write(file, f"wikitext-2/{file.name}")
    assert register("again", tmp_path / "wikitext.zip").folder == data.folder

    stream = open_tokens(token_stream(data.folder, TokenizerSpec("word", 50_000)))
    assert stream.vocabulary == 33_278
    assert {split: len(stream.tokens(split)) for split in stream.splits} == {
        "train": 2_088_628, "valid": 217_646, "test": 245_569
    }  # fmt: skip
    assert (data.count("valid"), data.count("test")) == (60, 60)  # articles
    small = open_tokens(token_stream(data.folder, TokenizerSpec("word", 10_000)))
    assert (small.vocabulary, small.tokens("train").dtype) == (10_000, np.uint16)


def test_trec_as_csv(tmp_path: Path, test_data: Path, register: Register) -> None:
    for part, encoding in (("train", "latin-1"), ("test", "utf-8")):
        lines = (test_data / "trec" / f"TREC.{part}.all").read_text(encoding).splitlines()
        (tmp_path / "trec").mkdir(exist_ok=True)
        with (tmp_path / "trec" / f"{part}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *(reversed(line.split(" ", 1)) for line in lines)])
    data = register("trec", tmp_path / "trec")
    assert (data.count("train"), data.count("test"), len(data.classes)) == (5_452, 500, 6)
    assert next(iter(data.documents("train"))) == "How did serfdom develop in and then leave Russia ?\n"
    assert data.y("train")[0] == 0


def test_latin_1_is_refused_with_its_line(test_data: Path, register: Register) -> None:
    path = test_data / "trec" / "TREC.train.all"
    line = 1 + path.read_bytes()[: next(at for at, byte in enumerate(path.read_bytes()) if byte >= 0x80)].count(b"\n")
    with pytest.raises(InvalidRequest, match=rf"TREC\.train\.all, line {line}: is not UTF-8"):
        register("trec", path)
