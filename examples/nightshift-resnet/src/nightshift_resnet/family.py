"""What Nightshift has to know of the family. This module imports no framework: the API imports it, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from nightshift.families import CLASSIFIER_METRICS, IMAGE_CLASSIFIER, Family, ImageSize, ModelSpec, Width

#: The recipe of He et al. (2016), 4.2: SGD with momentum 0.9, weight decay 1e-4, batches of 128, shifted and mirrored
#: images. Nightshift's `sgd` has that momentum (Nesterov's); its rate falls along a cosine instead of in two steps.
RECIPE: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 0.0001,
    "batch_size": 128,
    "lr_schedule": "cosine",
    "epochs": 160,
    "augment": ["shift", "flip"],
}


class ResNetModel(ModelSpec):
    """Residual network for small images in the form of He et al. (2016), 4.2.

    A 3x3 convolution, three groups of `blocks` residual blocks with `width`, 2 and 4 times `width` filters, the mean of
    each map, and a dense layer: 6 * blocks + 2 layers with weights.
    """

    family: Literal["resnet"] = "resnet"
    framework: Literal["torch"] = "torch"
    preset: str = "resnet20"
    image_size: ImageSize
    image_channels: Literal[1, 3]
    blocks: Annotated[int, Field(ge=1, le=200, description="Residual blocks of each of the three groups.")]
    width: Annotated[Width, Field(description="Filters of the first group.")]


def _preset(blocks: int, width: int = 16) -> dict[str, Any]:
    return {"image_size": (32, 32), "image_channels": 3, "blocks": blocks, "width": width}


ResNetModel.PRESETS = {
    "resnet20": _preset(3),
    "resnet32": _preset(5),
    "resnet-tiny": _preset(1, width=8),  # for trying out: 8 layers
}

FAMILY = Family(
    name="resnet",
    description="Residual networks for small colour images.",
    model=ResNetModel,
    default_preset="resnet20",
    training_defaults={
        "resnet20": RECIPE,
        "resnet32": RECIPE,
        "resnet-tiny": RECIPE | {"epochs": 10, "learning_rate": 0.05},
    },
    learners={"torch": "nightshift_resnet.torch_learner:build"},
    parts=replace(IMAGE_CLASSIFIER, export_onnx="nightshift_resnet.onnx_export:export"),
    dataset_kind="image",
    augmentations=frozenset({"shift", "rotate", "flip", "erase"}),
    watchable=frozenset({"loss", "val_loss", "accuracy", "val_accuracy"}),
    judged_by=CLASSIFIER_METRICS,
    tasks=("predict",),
    classifies=True,
    features=("stem.", "groups."),  # what `freeze: features` keeps
    head="output.",  # what begins anew with other classes
    requires=">=0.1,<1",
)
