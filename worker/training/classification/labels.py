"""Labels of a data set and outputs of a classifier, of any data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.datasets.store import open_dataset
from shared.errors import BadData


def adapted(dataset_dir: Path, model: object) -> dict[str, Any]:
    """Return what fine-tuning on this data set changes in the model.

    A sigmoid output (one logit) becomes a softmax unless there are exactly two classes.
    """
    classes = open_dataset(dataset_dir).classes
    return {"output": "softmax"} if getattr(model, "output", None) == "sigmoid" and len(classes) != 2 else {}


def labels_of_model(classes: Sequence[str], known: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return, for each class of a data set, the label of the class of the same name that a model knows.

    Raises BadData if it does not know one.
    """
    labels = {name: label for label, name in enumerate(known)}
    unknown = [name for name in classes if name not in labels]
    if unknown:
        raise BadData(
            f"the model does not know the classes {', '.join(unknown[:5])} of the data set; it knows "
            f"{', '.join(known[:5])}{' …' if len(known) > 5 else ''}. Fine-tune it on this data set first"
        )
    return np.array([labels[name] for name in classes], np.int64)
