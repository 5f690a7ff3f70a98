"""The model families: what `model` may hold, what each preset brings along, what can be asked of the family.

Adding a family is one spec module, one entry here and one folder in `worker/families`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator

from nightshift.names import DEFAULT_FAMILY
from shared.specs import cnn, gan, gru_lm
from shared.specs.base import field_error
from shared.specs.cnn import CnnModel
from shared.specs.gan import GanModel
from shared.specs.gru_lm import GruLmModel
from shared.specs.training import Watched

#: What batch inference can ask of a model.
Task = Literal["predict", "score", "generate"]

_COMMON_METRICS = frozenset({"loss", "val_loss", "accuracy", "val_accuracy"})


@dataclass(frozen=True)
class Family:
    """One family as the outside sees it."""

    model: type[CnnModel] | type[GruLmModel] | type[GanModel]
    presets: Mapping[str, Mapping[str, Any]]
    default_preset: str
    #: Values a preset brings for `training` where the user says nothing.
    training_defaults: Mapping[str, Mapping[str, Any]]
    augmentations: frozenset[str]
    #: Metrics early stopping may watch.
    watchable: frozenset[str]
    dataset_kind: str  # image | text
    #: What batch inference does with a model of the family.
    tasks: tuple[Task, ...]
    #: Whether it tells the classes of a data set apart.
    classifies: bool = False
    #: Whether it generates what follows a prompt.
    prompted: bool = False
    #: The metric the best model is chosen by, and early stopping watches where the user names none.
    watched: Watched = "val_loss"
    #: Metrics of the test part that a promotion may be decided by.
    judged_by: tuple[str, ...] = ()
    #: Whether they are made of one score per example, which can be resampled.
    resampled: bool = True

    def training_for(self, preset: object) -> Mapping[str, Any]:
        """The training defaults of a preset; none for a name that is not a preset (parsing refuses it later)."""
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
    """Validate as the one family named, so that places of errors read `model.units`, not `model.gru_lm.units`."""
    if not isinstance(data, dict):
        return handler(data)
    name = data.get("family", DEFAULT_FAMILY)
    if not isinstance(name, str) or name not in FAMILIES:
        raise field_error("Model", ("family",), f"unknown family; there are {', '.join(FAMILIES)}", name)
    return FAMILIES[name].model.model_validate(data)


#: What `model` holds: the spec of one family, told apart by `family`.
Model = Annotated[
    Annotated[CnnModel | GruLmModel | GanModel, Field(discriminator="family")],
    WrapValidator(_by_family),
]
