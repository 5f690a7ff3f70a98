"""Each format from small files: the right images, labels, texts and splits, however they are packed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nightshift.errors import InvalidRequest
from shared.datasets import formats
from shared.datasets.ingest.build import ImageSource, store_images
from shared.datasets.ingest.build_text import store_text
from shared.datasets.ingest.source_files import open_files
from shared.datasets.store import OpenDataset, open_dataset
from tests.support.dataset_files import class_folders, idx_folder, labelled_images, npz, picture, zipped, zipped_folder

Register = Callable[..., OpenDataset]


@pytest.fixture
def register(tmp_path: Path) -> Register:
    def register(path: Path, format: str | None = None, **options: tuple[int, int]) -> OpenDataset:
        with open_files(path) as files:
            source = formats.read(files, format, **options)
            store = store_images if isinstance(source, ImageSource) else store_text
            return open_dataset(store(tmp_path / "datasets", source).folder)  # type: ignore[operator]

    return register


# -- arrays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_idx_keeps_its_own_test_part(tmp_path: Path, register: Register, packed: bool) -> None:
    data = register(idx_folder(tmp_path / "set", packed=packed))
    assert (data.image, data.classes, data.meta["split"]) == ((6, 5, 1), ["0", "1", "2", "3"], "own")
    assert (data.count("train"), data.count("test")) == (40, 12)
    images, _ = labelled_images(40)
    assert np.array_equal(data.x("train")[..., 0], images)
    assert np.array_equal(data.x("test")[:, 0, 0, 0], data.y("test"))


def test_idx_in_a_zip_is_the_same_content_as_the_folder(tmp_path: Path, register: Register) -> None:
    folder = idx_folder(tmp_path / "set")
    assert register(folder).folder == register(zipped_folder(tmp_path / "set.zip", folder, "mnist/")).folder


def test_idx_without_a_test_part_gets_one(tmp_path: Path, register: Register) -> None:
    data = register(idx_folder(tmp_path / "set", test=False))
    assert (data.count("train"), data.count("test")) == (32, 8)
    assert data.meta["splits"]["test"]["classes"] == {"0": 2, "1": 2, "2": 2, "3": 2}


def test_npz_in_every_form_of_the_same_pixels_is_the_same_content(tmp_path: Path, register: Register) -> None:
    images, labels = labelled_images(40)
    same = [
        npz(tmp_path / "bytes.npz", x=images, y=labels),
        npz(tmp_path / "channel.npz", x=images[..., None], y=labels[:, None]),
        npz(tmp_path / "int.npz", x=images.astype(np.int64), y=labels.astype(np.int16)),
        npz(tmp_path / "float.npz", x=images.astype(np.float32), y=labels),
        npz(tmp_path / "unit.npz", x=images / 255.0, y=labels.astype(">i4")),
        npz(tmp_path / "keras.npz", x_train=images, y_train=labels),
    ]
    assert len({register(path).folder for path in same}) == 1


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", ">i2", "float32", "float16", ">f8"])
def test_npz_with_one_hot_labels_is_that_of_their_numbers(tmp_path: Path, register: Register, dtype: str) -> None:
    images, labels = labelled_images(40)
    one_hot = npz(tmp_path / "one-hot.npz", x=images, y=np.eye(4)[labels].astype(dtype))
    numbers = npz(tmp_path / "numbers.npz", x=images, y=labels)
    assert register(one_hot).folder == register(numbers).folder


def test_npz_with_one_hot_labels_knows_classes_without_rows(tmp_path: Path, register: Register) -> None:
    images, labels = labelled_images(40)
    given = {"x": images, "y": np.eye(6)[labels], "x_test": images[:9], "y_test": labels[:9]}
    data = register(npz(tmp_path / "set.npz", **given))
    assert (data.classes, data.count("train"), data.count("test")) == ([*"012345"], 40, 9)
    assert np.array_equal(data.y("train"), labels)


def test_npz_counts_the_rows_of_one_hot_labels_over_all_chunks(
    tmp_path: Path, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.datasets.formats.arrays.CHUNK_BYTES", 300)
    images, labels = labelled_images(40)
    y = np.eye(4)[labels]
    data = register(npz(tmp_path / "set.npz", x=images, y=y, x_test=images, y_test=labels))
    assert np.array_equal(data.y("train"), labels)
    y[33, 0] = 3
    with pytest.raises(InvalidRequest, match=r"y\.npy: row 33 is \["):
        register(npz(tmp_path / "bad.npz", x=images, y=y))


def test_npz_with_a_test_part(tmp_path: Path, register: Register) -> None:
    images, labels = labelled_images(40, (4, 4, 3))
    data = register(npz(tmp_path / "set.npz", x=images[:30], y=labels[:30], x_test=images[30:], y_test=labels[30:]))
    assert (data.image, data.count("train"), data.count("test")) == ((4, 4, 3), 30, 10)
    assert np.array_equal(data.x("test"), images[30:])


def test_cifar_planes_become_pixels(tmp_path: Path, register: Register) -> None:
    images, labels = labelled_images(20, (32, 32, 3), classes=10)
    for name, rows in (
        ("data_batch_1.bin", slice(0, 10)),
        ("data_batch_2.bin", slice(10, 15)),
        ("test_batch.bin", slice(15, 20)),
    ):
        planes = images[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
        (tmp_path / name).write_bytes(np.concatenate([labels[rows, None], planes], 1).tobytes())
    data = register(tmp_path)
    assert data.classes[3] == "cat"
    assert np.array_equal(data.x("train"), images[:15])
    assert np.array_equal(data.y("test"), labels[15:])


# -- pictures -------------------------------------------------------------------------------------


def test_class_folders_of_mixed_sizes(tmp_path: Path, register: Register) -> None:
    data = register(class_folders(tmp_path / "pets"))
    assert (data.classes, data.image) == (["cats", "dogs"], (28, 28, 3))  # 28: the median of the longer sides
    assert (data.count("train"), data.count("test")) == (8, 2)
    for split in data.splits:
        for image, label, file in zip(data.x(split), data.y(split), data.ids(split), strict=True):
            assert image[..., 2 * int(label)].min() > 200  # cats are red, dogs are blue
            assert file.decode().startswith(data.classes[label] + "/")


@pytest.mark.parametrize("prefix", ["", "pets/", "a/b/"])
def test_a_zip_of_class_folders_is_the_same_content(tmp_path: Path, register: Register, prefix: str) -> None:
    folder = class_folders(tmp_path / "pets")
    archive = zipped_folder(tmp_path / "pets.zip", folder, prefix)
    assert register(folder).folder == register(archive).folder


def test_pictures_keep_their_own_splits(tmp_path: Path, register: Register) -> None:
    class_folders(tmp_path / "pets" / "train", 4)
    class_folders(tmp_path / "pets" / "val", 1)
    class_folders(tmp_path / "pets" / "Test", 2)
    data = register(tmp_path / "pets")
    assert {split: data.count(split) for split in data.splits} == {"train": 8, "valid": 2, "test": 4}


def test_grey_pictures_of_one_size_are_kept_as_they_are(tmp_path: Path, register: Register) -> None:
    images, _ = labelled_images(10, (12, 16))
    for number, image in enumerate(images):
        folder = tmp_path / "set" / f"class {number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    (tmp_path / "set" / "README.md").write_text("about")
    data = register(tmp_path / "set")
    assert data.image == (12, 16, 1)
    ids = [int(name.decode().split("/")[1].removesuffix(".png")) for name in data.ids("train")]
    assert np.array_equal(data.x("train")[..., 0], images[ids])


def test_large_pictures_are_stored_at_a_stated_size(tmp_path: Path, register: Register) -> None:
    for name in ("a", "b"):
        for number in range(2):
            file = tmp_path / "set" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture((400, 300), format="PNG"))
    assert register(tmp_path / "set").image == (224, 224, 3)
    assert register(tmp_path / "set", image_size=(30, 40)).image == (30, 40, 3)


def test_pictures_are_turned_as_their_camera_says_and_16_bits_become_8(tmp_path: Path, register: Register) -> None:
    left_dark = np.zeros((10, 10), np.uint8)
    left_dark[:, 5:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(2):
            deep = Image.fromarray(left_dark.astype(np.uint16) * 257)
            deep.save(tmp_path / "set" / name / f"{number}.png", exif=exif)
    image = register(tmp_path / "set").x("train")[0, ..., 0]
    assert image[:5].max() == 0
    assert image[5:].min() == 255


# -- text -----------------------------------------------------------------------------------------


def test_csv_rows_are_labelled_documents(tmp_path: Path, register: Register) -> None:
    rows = [f'"question, {n}\nsecond line",{"yes" if n % 2 else "no"}' for n in range(20)]
    path = tmp_path / "set.csv"
    path.write_text("﻿text,label\r\n" + "\r\n".join(rows), encoding="utf-8")
    data = register(path)
    assert (data.kind, data.classes) == ("text", ["no", "yes"])
    assert data.meta["splits"]["test"]["classes"] == {"no": 2, "yes": 2}
    found = [
        (text, int(label))
        for split in data.splits
        for text, label in zip(data.documents(split), data.y(split), strict=True)
    ]
    assert sorted(found) == sorted((f"question, {n}\nsecond line\n", n % 2) for n in range(20))


def test_csv_columns_in_any_order_and_numbers_in_their_order(tmp_path: Path, register: Register) -> None:
    path = tmp_path / "no suffix"
    path.write_text("label,text\n" + "".join(f"{n % 11},text {n}\n" for n in range(44)))
    assert register(path).classes == [str(n) for n in range(11)]


REVIEWS = [("good, very\nsecond line", "yes"), ("bad 😀", "no"), ("fine", "yes"), ("awful", "no")] * 5


def test_json_lines_hold_the_same_documents_as_csv(tmp_path: Path, register: Register) -> None:
    table, objects = tmp_path / "set.csv", tmp_path / "set.jsonl.gz"
    table.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in REVIEWS))
    lines = [json.dumps({"id": n, "label": label, "text": text}) for n, (text, label) in enumerate(REVIEWS)]
    objects.write_bytes(gzip.compress(("\ufeff" + "\r\n\r\n".join(lines)).encode()))
    assert register(objects).folder == register(table).folder


def test_json_lines_have_parts_by_name_and_labels_of_every_type(tmp_path: Path, register: Register) -> None:
    labels = {"train": ["2", 10, 3.0], "dev": [2, 3], "test": ["10", 10.0]}
    for part, found in labels.items():
        text = "".join(json.dumps({"text": f"{part} {label}", "label": label}) + "\n" for label in found)
        (tmp_path / f"my-{part}.ndjson").write_text(text)
    data = register(tmp_path)
    assert data.classes == ["2", "3", "10"]
    assert {split: data.y(split).tolist() for split in data.splits} == {
        "train": [0, 2, 1],
        "valid": [0, 1],
        "test": [2, 2],
    }


def test_json_lines_labels_may_be_true_and_false(tmp_path: Path, register: Register) -> None:
    (tmp_path / "set.jsonl").write_text('{"text": "a", "label": true}\n{"text": "b", "label": false}\n' * 5)
    assert register(tmp_path / "set.jsonl").classes == ["false", "true"]


def texts_by_class(folder: Path, per_class: int = 5, suffix: str = ".txt") -> Path:
    for label in ("neg", "pos"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            (folder / label / f"{number}{suffix}").write_text(f"{label} text {number}\r\n\r\nwith two paragraphs\n")
    return folder


@pytest.mark.parametrize("prefix", ["", "reviews/", "a/b/"])
def test_texts_in_class_folders_are_labelled_documents(tmp_path: Path, register: Register, prefix: str) -> None:
    folder = texts_by_class(tmp_path / "reviews")
    (folder / "README.md").write_text("about")
    data = register(folder)
    assert (data.classes, data.count("train"), data.count("test")) == (["neg", "pos"], 8, 2)
    documents = [*data.documents("train"), *data.documents("test")]
    labels = [*data.y("train"), *data.y("test")]
    assert sorted(documents) == [
        f"{name} text {n}\n\nwith two paragraphs\n" for name in data.classes for n in range(5)
    ]  # fmt: skip
    assert [data.classes[label] for label in labels] == [text[:3] for text in documents]
    assert register(zipped_folder(tmp_path / "reviews.zip", folder, prefix)).folder == data.folder


def test_texts_in_class_folders_keep_their_own_parts(tmp_path: Path, register: Register) -> None:
    for part, count in (("Train", 3), ("dev", 1), ("test", 2)):
        texts_by_class(tmp_path / "set" / part, count)
    data = register(tmp_path / "set")
    assert {split: data.count(split) for split in data.splits} == {"train": 6, "valid": 2, "test": 4}
    assert data.meta["splits"]["test"]["classes"] == {"neg": 2, "pos": 2}


@pytest.mark.parametrize(
    "names",
    [
        ["train/1", "train/2", "test/1", "test/2"],  # parts, not classes
        ["a/1", "a/2", "b/1"],  # a class of one text
        ["a/1", "a/2", "a/3"],  # one class
        ["a/1", "a/2", "b/1", "b/2", "more"],  # a text in no class
        ["a/x/1", "a/x/2", "b/x/1", "b/x/2"],  # folders of folders
        ["a/train", "a/test", "b/train", "b/test"],  # parts by the names of the files
        ["train/a/1", "train/a/2", "train/b/1", "train/b/2", "test/1"],  # a text of the test part in no class
        ["a/1.md", "a/2.md", "b/1.md", "b/2.md"],  # documentation
    ],
)
def test_other_folders_of_texts_stay_plain_text(tmp_path: Path, register: Register, names: list[str]) -> None:
    members = {name if name.endswith(".md") else f"{name}.txt": f"words of {name}".encode() for name in names}
    data = register(zipped(tmp_path / "texts.zip", members))
    assert data.classes == []


def test_texts_in_class_folders_are_plain_text_if_it_is_said(tmp_path: Path, register: Register) -> None:
    data = register(texts_by_class(tmp_path / "set"), "text")
    assert (data.classes, data.meta["split"], data.count("train") + data.count("test")) == ([], "last 20 %", 20)


def test_texts_of_any_name_are_labelled_if_it_is_said(tmp_path: Path, register: Register) -> None:
    data = register(texts_by_class(tmp_path / "set", suffix=""), "text_folders")
    assert (data.classes, data.count("train"), data.count("test")) == (["neg", "pos"], 8, 2)


def test_plain_text_is_cut_at_the_document_nearest_to_four_fifths(tmp_path: Path, register: Register) -> None:
    documents = [f"speaker {n}:\nsome words\n\n" for n in range(10)]
    path = tmp_path / "play.txt"
    path.write_bytes(b"\n\n" + "".join(documents).replace("\n", "\r\n").encode())
    data = register(path)
    assert ["".join(documents[:8]), "".join(documents[8:])] == [
        data.text_path("train").read_text().lstrip(), data.text_path("test").read_text()
    ]  # fmt: skip
    assert [text.strip() for text in data.documents("train")] == [text.strip() for text in documents[:8]]
    assert list(data.documents("test")) == documents[8:]


def test_a_text_without_blank_lines_is_cut_between_words(tmp_path: Path, register: Register) -> None:
    path = tmp_path / "long.txt"
    path.write_text("wörd " * 100)
    data = register(path)
    assert (data.count("train"), data.count("test")) == (1, 1)
    assert {*data.text_path("train").read_text().split(), *data.text_path("test").read_text().split()} == {"wörd"}
    assert data.text_path("train").read_text() + data.text_path("test").read_text() == "wörd " * 100


def test_wikitext_files_are_told_by_name_and_split_at_headings(tmp_path: Path, register: Register) -> None:
    article = " \n = Title {} = \n \n some words \n \n = = Part = = \n \n more <unk> words \n"
    for part, count in (("train", 3), ("valid", 2), ("test", 1)):
        text = "".join(article.format(n) for n in range(count))
        (tmp_path / f"wiki.{part}.tokens.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "README.txt").write_text("about")
    data = register(tmp_path)
    assert {split: data.count(split) for split in data.splits} == {"train": 3, "valid": 2, "test": 1}
    assert data.meta["tokenised"]
    assert next(iter(data.documents("test"))) == article.format(0)
    # A blank line before a heading ends the article before it, so it belongs to that one.
    assert [text.count("Title") for text in data.documents("train")] == [1, 1, 1]


def test_documents_do_not_depend_on_how_the_file_is_read(
    tmp_path: Path, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("ä first\r\n \r\n\n second €\nline\n\nthird 𝄞".encode() * 3)
    whole = register(path).folder
    for size in (1, 2, 3, 5, 7, 11):
        monkeypatch.setattr("shared.datasets.formats.utf8.BLOCK_BYTES", size)
        assert register(path).folder == whole


def test_a_folder_of_texts_has_a_document_per_file(tmp_path: Path, register: Register) -> None:
    archive = zipped(tmp_path / "texts.zip", {f"texts/{n}.txt": f"text {n}".encode() for n in range(10)})
    data = register(archive)
    assert list(data.documents("train")) == [f"text {n}" for n in range(8)]


def test_format_can_be_said(tmp_path: Path, register: Register) -> None:
    path = tmp_path / "set.csv"
    path.write_text("text,label\na,b\n")
    assert register(path, "text").kind == "text"
