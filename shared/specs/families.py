"""Model families: model specs, presets and their training defaults, tasks and metrics.

To add a family, add one spec module, one entry here and one folder in `worker/families`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator

from nightshift.names import DEFAULT_FAMILY, DataKind
from shared.specs import cnn, gan, gru_lm
from shared.specs.base import field_error
from shared.specs.cnn import CnnModel
from shared.specs.gan import GanModel
from shared.specs.gru_lm import GruLmModel
from shared.specs.training import Watched

#: Tasks of batch inference.
Task = Literal["predict", "score", "generate"]

_COMMON_METRICS = frozenset({"loss", "val_loss", "accuracy", "val_accuracy"})


@dataclass(frozen=True)
class Family:
    """Properties of one family, without its implementation."""

    model: type[CnnModel] | type[GruLmModel] | type[GanModel]
    presets: Mapping[str, Mapping[str, Any]]
    default_preset: str
    #: Defaults of `training` per preset.
    training_defaults: Mapping[str, Mapping[str, Any]]
    augmentations: frozenset[str]
    #: Metrics that early stopping may watch.
    watchable: frozenset[str]
    dataset_kind: DataKind
    #: Tasks of batch inference that the family supports.
    tasks: tuple[Task, ...]
    #: Whether it tells the classes of a data set apart.
    classifies: bool = False
    #: Whether it generates what follows a prompt.
    prompted: bool = False
    #: The metric that selects the best checkpoint, and the default of early stopping.
    watched: Watched = "val_loss"
    #: Metrics of the test part that a promotion may be decided by.
    judged_by: tuple[str, ...] = ()
    #: Whether they are made of one score per example, which can be resampled.
    resampled: bool = True

    def training_for(self, preset: object) -> Mapping[str, Any]:
        """Return the training defaults of a preset; empty for an unknown name, which parsing refuses later."""
        name = self.default_preset if preset is None else preset
        return self.training_defaults.get(name, {}) if isinstance(name, str) else {}


FAMILIES: dict[str, Family] = {
    "cnn": Family(
        model=CnnModel,
        presets=cnn.PRESETS,
        default_preset="mnist-3conv",
        training_defaults=cnn.TRAINING_DEFAULTS,
        augmentations=frozenset({"shift", "rotate", "flip", "erase"}),
        watchable=_COMMON_METRICS,
        dataset_kind="image",
        tasks=("predict",),
        classifies=True,
        judged_by=("test_accuracy", "test_loss", "f1_macro", "precision_macro", "recall_macro", "auc_macro_ovr"),
    ),
    "gru_lm": Family(
        model=GruLmModel,
        presets=gru_lm.PRESETS,
        default_preset="gru-2x512",
        training_defaults=gru_lm.TRAINING_DEFAULTS,
        augmentations=frozenset({"word_dropout", "word_replacement"}),
        watchable=(_COMMON_METRICS - {"accuracy"}) | {"perplexity", "val_perplexity"},
        dataset_kind="text",
        tasks=("score", "generate"),
        prompted=True,
        judged_by=("test_perplexity", "test_loss"),
    ),
    "gan": Family(
        model=GanModel,
        presets=gan.PRESETS,
        default_preset="dcgan",
        training_defaults=gan.TRAINING_DEFAULTS,
        augmentations=frozenset(),
        watchable=frozenset({"val_frechet_distance"}),
        dataset_kind="image",
        tasks=("generate",),
        watched="val_frechet_distance",
        judged_by=("frechet_distance", "precision", "recall"),
        resampled=False,
    ),
}


def _by_family(data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validate as the named family, so that error paths read `model.units`, not `model.gru_lm.units`."""
    if not isinstance(data, dict):
        return handler(data)
    name = data.get("family", DEFAULT_FAMILY)
    if not isinstance(name, str) or name not in FAMILIES:
        raise field_error("Model", ("family",), f"unknown family; families: {', '.join(FAMILIES)}", name)
    return FAMILIES[name].model.model_validate(data)


#: The `model` field: the spec of one family, selected by `family`.
Model = Annotated[
    Annotated[CnnModel | GruLmModel | GanModel, Field(discriminator="family")],
    WrapValidator(_by_family),
]
