"""Image data sets for a GAN: the same bytes as for a CNN, in the model's image size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nightshift.families.learner import Splits
from nightshift.families.training import Training
from shared.datasets.store import open_dataset
from shared.errors import BadData
from worker.families.cnn.data import picture_splits
from worker.families.gan.family import GanModel
from worker.families.gan.weights import pixel_scale


def load_splits(dataset_dir: Path, model: GanModel, training: Training) -> Splits:
    """Load `x` uint8 [n, height, width, channels] and labels `y`, which only the feature extractor uses.

    Raises BadData if the data set holds text or too few images.
    """
    stored = open_dataset(dataset_dir)
    if stored.kind != "image":
        raise BadData(f"a gan needs a data set of images, this one holds {stored.kind}")
    if stored.count("train") < 2:
        raise BadData("the data set needs at least two training images")
    splits = picture_splits(stored, (*model.image_size, model.image_channels), training)
    scale, shift = pixel_scale(model)
    return replace(
        splits, facts={**splits.facts, "preprocessing": {"scale": scale, "shift": shift, "resize": "bilinear"}}
    )


def load_test(dataset_dir: Path, model: GanModel, facts: Mapping[str, Any], tokenizer: str | None = None) -> Splits:
    """Load a data set for evaluating a trained model; the feature extractor learns from its training part."""
    return load_splits(dataset_dir, model, Training())
