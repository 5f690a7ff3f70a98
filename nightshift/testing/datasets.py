"""Small data sets for the kit: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

import numpy as np

from nightshift.families.family import Family
from shared.datasets.builtins import digits
from shared.datasets.ingest.build import store_images
from shared.datasets.ingest.build_text import Block, TextSource, TextSplit, store_text

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


#: Kind of data set -> the one that the kit uses.
STORES: dict[str, Store] = {"image": store_digits, "text": store_tale}


def store_of(family: Family) -> Store:
    """Return what stores the data set that a family is tried with. Raises ValueError if there is none."""
    if family.trial is not None and family.trial.dataset is not None:
        module, _, name = family.trial.dataset.partition(":")
        return cast("Store", getattr(import_module(module), name))
    if family.dataset_kind not in STORES:
        raise ValueError(f"the kit has no data set of the kind {family.dataset_kind!r}: name one, Trial(dataset=…)")
    return STORES[family.dataset_kind]
