"""The optimizers: their default learning rates and constants, and which settings belong to which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adadelta"]
DEFAULT: Optimizer = "adam"


@dataclass(frozen=True)
class Defaults:
    """The learning rate of an optimizer, and its constants by their names in `training`."""

    learning_rate: float
    constants: Mapping[str, float | bool]

    def default(self, setting: str) -> float | bool | None:
        """Return the learning rate or a constant; None if there is no such constant."""
        return self.learning_rate if setting == "learning_rate" else self.constants.get(setting)


_ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}

#: Optimizer -> what holds where `training` says nothing.
OPTIMIZERS: Mapping[Optimizer, Defaults] = MappingProxyType({
    "sgd": Defaults(0.01, {"momentum": 0.9, "nesterov": True}),
    "adam": Defaults(0.001, _ADAM),
    "adamw": Defaults(0.001, _ADAM),
    "rmsprop": Defaults(0.001, {"rho": 0.9, "epsilon": 1e-7}),
    "adadelta": Defaults(1.0, {"rho": 0.95, "epsilon": 1e-7}),
})  # fmt: skip
#: All constants.
CONSTANTS = tuple(dict.fromkeys(name for one in OPTIMIZERS.values() for name in one.constants))

#: Adam with the constants of Keras, for presets that follow a listing in Keras.
KERAS_ADAM: Mapping[str, Any] = MappingProxyType({"optimizer": "adam", **_ADAM, "epsilon": 1e-7})


def constants_of(training: Any) -> dict[str, Any]:
    """Return the constants of a training's optimizer: those that it sets, else the optimizer's own."""
    own = OPTIMIZERS[training.optimizer].constants
    chosen = {name: getattr(training, name) for name in own}
    return {name: own[name] if value is None else value for name, value in chosen.items()}


def foreign_constants(training: Mapping[str, Any]) -> list[str]:
    """Return the constants that are set and that the optimizer does not have. An unknown optimizer has all."""
    optimizer = training.get("optimizer", DEFAULT)
    own = OPTIMIZERS[optimizer].constants if optimizer in get_args(Optimizer) else CONSTANTS
    return [name for name in CONSTANTS if name not in own and training.get(name) not in (None, _unset(name))]


def _unset(name: str) -> bool | None:
    """Return the value of a constant that says nothing, beside null: a switch is never null."""
    return True if name == "nesterov" else None


def completed(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a preset's defaults of `training` with what a job gives.

    The preset's learning rate and constants are left out if the job chooses another optimizer.
    """
    if given.get("optimizer", defaults.get("optimizer", DEFAULT)) != defaults.get("optimizer", DEFAULT):
        defaults = {name: value for name, value in defaults.items() if name not in OF_AN_OPTIMIZER}
    return {**defaults, **given}


#: Settings that mean something for one optimizer only.
OF_AN_OPTIMIZER = ("learning_rate", *CONSTANTS)
