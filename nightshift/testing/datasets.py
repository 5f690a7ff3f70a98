"""Small data sets for the kit: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

import numpy as np

from nightshift.families.family import Family
from nightshift.names import FILES, TABLE
from shared.datasets import formats
from shared.datasets.builtins import digits
from shared.datasets.ingest.build import NO_LIMITS, store_images
from shared.datasets.ingest.build_text import Block, TextSource, TextSplit, store_text
from shared.datasets.ingest.source_files import open_files
from shared.datasets.registry import built

#: Stores a data set below a folder and returns its folder.
Store = Callable[[Path], Path]


def store_digits(root: Path) -> Path:
    """Store the built-in digits: gray images of 8 x 8 pixels, ten classes."""
    return store_images(root, digits()).folder


def store_tale(root: Path) -> Path:
    """Store a text of 600 short lines."""
    lines = [f"the {n % 17} cats saw {n % 5} dogs and {n % 3} birds\n" for n in range(600)]
    parts = {"train": lines[:500], "test": lines[500:]}

    def split(text: list[str]) -> TextSplit:
        data = "".join(text).encode()
        return TextSplit(lambda: iter([Block(data, [len(data)])]))

    return store_text(root, TextSource({name: split(text) for name, text in parts.items()})).folder


def store_documents(root: Path, documents: list[bytes]) -> Path:
    """Store texts, each of which is a document."""

    def split(texts: list[bytes]) -> TextSplit:
        return TextSplit(lambda: iter([Block(b"".join(texts), np.cumsum([len(text) for text in texts]).tolist())]))

    return store_text(root, TextSource({"train": split(documents), "test": split([b"the birds"])})).folder


def store_given(root: Path, contents: Mapping[str, bytes | str], kind: str) -> Path:
    """Store files by name as a data set of a kind, as `nightshift datasets add --kind` does."""
    given = root / "given"
    for name, content in contents.items():
        (given / name).parent.mkdir(parents=True, exist_ok=True)
        (given / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with open_files(given, all_files=kind == FILES) as files:
        return built(root / "stored", formats.read(files, kind=kind), NO_LIMITS).folder


def store_animals(root: Path) -> Path:
    """Store a table of 900 rows: numbers, categories, missing values, and the classes `kind` and numbers `age`."""
    draw = np.random.Generator(np.random.Philox(key=3))
    rows = ["weight,legs,color,tame,age,kind"]
    for n in range(900):
        kind = n % 3
        weight = "" if n % 17 == 0 else f"{kind * 4 + draw.random() * 5:.3f}"
        color = ("red", "gray", "", "brown")[int(draw.integers(4))]
        age = 3 * kind + 2 * (color == "red") + draw.random()
        rows.append(f"{weight},{4 - 2 * (kind == 1)},{color},{n % 2 == 0},{age:.3f},{('cat', 'bird', 'dog')[kind]}")
    return store_given(root, {"animals.csv": "\n".join(rows) + "\n"}, TABLE)


#: Kind of data set -> the one that the kit uses.
STORES: dict[str, Store] = {"image": store_digits, "text": store_tale, "table": store_animals}


def store_of(family: Family) -> Store:
    """Return what stores the data set that a family is tried with. Raises ValueError if there is none."""
    if family.trial is not None and family.trial.dataset is not None:
        module, _, name = family.trial.dataset.partition(":")
        return cast("Store", getattr(import_module(module), name))
    if family.dataset_kind not in STORES:
        raise ValueError(f"the kit has no data set of the kind {family.dataset_kind!r}: name one, Trial(dataset=…)")
    return STORES[family.dataset_kind]
