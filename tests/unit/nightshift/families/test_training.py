"""Settings of training: optimizers with their rates and constants, and what a preset's defaults are worth."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from nightshift.families.optimizers import CONSTANTS, OPTIMIZERS, Optimizer, completed, foreign_constants
from nightshift.families.training import Training


def parsed(**given: Any) -> Training:
    return Training.model_validate(given)


@pytest.mark.parametrize(
    ("optimizer", "rate"), [("adam", 0.001), ("adamw", 0.001), ("rmsprop", 0.001), ("sgd", 0.01), ("adadelta", 1.0)]
)
def test_each_optimizer_has_a_rate_of_its_own(optimizer: str, rate: float) -> None:
    assert parsed(optimizer=optimizer).learning_rate == rate
    assert parsed(learning_rate=None, optimizer=optimizer).learning_rate == rate
    assert parsed(optimizer=optimizer, learning_rate=0.3).learning_rate == 0.3


def test_a_stored_spec_has_the_rate_and_it_counts_as_not_given() -> None:
    training = parsed(optimizer="sgd")
    assert training.model_dump(mode="json")["learning_rate"] == 0.01
    assert "learning_rate" not in training.model_dump(exclude_unset=True)
    assert Training().learning_rate == 0.001


def test_the_schema_says_that_the_rate_may_be_null() -> None:
    field = Training.model_json_schema()["properties"]["learning_rate"]
    assert field["anyOf"] == [{"exclusiveMinimum": 0, "maximum": 1000, "type": "number"}, {"type": "null"}]
    assert "learning_rate" not in Training.model_json_schema().get("required", [])


@pytest.mark.parametrize("given", [{"learning_rate": 0}, {"learning_rate": 1001}, {"learning_rate": "0.1"}])
def test_wrong_rates_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="learning_rate"):
        parsed(**given)


def test_an_unknown_optimizer_is_the_only_error() -> None:
    with pytest.raises(ValidationError) as found:
        parsed(optimizer="zzz")
    assert [error["loc"] for error in found.value.errors()] == [("optimizer",)]


def test_every_optimizer_is_described() -> None:
    assert set(OPTIMIZERS) == set(get_args(Optimizer))
    assert set(CONSTANTS) <= set(Training.model_fields)


@pytest.mark.parametrize(
    ("given", "foreign"),
    [
        ({"momentum": 0.5}, ["momentum"]),
        ({"nesterov": False}, ["nesterov"]),
        ({"optimizer": "sgd", "momentum": 0.0, "nesterov": False}, []),
        ({"optimizer": "sgd", "beta1": 0.9, "beta2": 0.9}, ["beta1", "beta2"]),
        ({"optimizer": "sgd", "epsilon": 1e-7}, ["epsilon"]),
        ({"optimizer": "adamw", "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-7}, []),
        ({"optimizer": "adam", "rho": 0.9}, ["rho"]),
        ({"optimizer": "rmsprop", "rho": 0.9, "epsilon": 1e-7, "beta2": 0.9}, ["beta2"]),
        ({"optimizer": "adadelta", "rho": 0.9, "epsilon": 1e-7, "momentum": 0.1}, ["momentum"]),
    ],
)
def test_constants_of_another_optimizer_are_found(given: dict[str, Any], foreign: list[str]) -> None:
    assert foreign_constants(parsed(**given).model_dump()) == foreign
    assert foreign_constants(given) == foreign


def test_nothing_is_foreign_where_nothing_is_said() -> None:
    for optimizer in OPTIMIZERS:
        assert foreign_constants(parsed(optimizer=optimizer).model_dump()) == []


@pytest.mark.parametrize(
    "given",
    [{"momentum": 1.0}, {"momentum": -0.1}, {"beta1": 1.0}, {"beta2": 1.0}, {"epsilon": 0.0}, {"rho": 1.0}],
)
def test_constants_have_limits(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(given))):
        parsed(**given)


PRESET = {"optimizer": "adam", "learning_rate": 0.0005, "beta1": 0.5, "epochs": 20}


def test_a_preset_fills_in_what_is_not_given() -> None:
    assert completed(PRESET, {"epochs": 3}) == {**PRESET, "epochs": 3}
    assert completed(PRESET, {"optimizer": "adam", "beta1": None}) == {**PRESET, "beta1": None}


def test_a_preset_s_rate_and_constants_are_of_its_own_optimizer_only() -> None:
    assert completed(PRESET, {"optimizer": "sgd"}) == {"optimizer": "sgd", "epochs": 20}
    assert completed(PRESET, {"optimizer": "adamw", "learning_rate": 0.2}) == {
        "optimizer": "adamw", "learning_rate": 0.2, "epochs": 20,
    }  # fmt: skip
    assert completed({"learning_rate": 0.1}, {"optimizer": "adam"})["learning_rate"] == 0.1
    assert "learning_rate" not in completed({"learning_rate": 0.1}, {"optimizer": "sgd"})
