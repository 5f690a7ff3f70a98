"""The network as an ONNX file, for faster predictions on a CPU and for other runtimes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np


def export(model: Any, weights: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """Return the network of these weights: bytes [rows, height, width, channels] to probabilities [rows, classes]."""
    import torch

    from nightshift_resnet.torch_learner import Predicting, ResidualNetwork

    network = ResidualNetwork(model.image_channels, model.blocks, model.width, len(facts["classes"]))
    # `strict=False`: batch norm's counters are no weights.
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()}, strict=False)
    images = torch.zeros(1, *model.image_size, model.image_channels, dtype=torch.uint8)
    file = io.BytesIO()
    with warnings.catch_warnings():  # torch's other exporter needs the package onnxscript
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Predicting(network).eval(),
            (images,),
            file,
            dynamo=False,
            input_names=["images"],
            dynamic_axes={"images": {0: "rows"}},
        )
    return file.getvalue()
