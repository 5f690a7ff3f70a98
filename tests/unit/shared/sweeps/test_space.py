"""The space of a sweep: conditions, grids, bounds, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from nightshift.errors import InvalidRequest
from shared.specs.sweeps import Parameter, SweepSpec
from shared.sweeps import space


def read(**parameters: dict[str, Any]) -> dict[str, Parameter]:
    return {path.replace("__", "."): Parameter.model_validate(one) for path, one in parameters.items()}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"choices": ["adam", None, [1, 2]]}, "choice"),
        ({"low": 1, "high": 9}, "int"),
        ({"low": 1, "high": 9.5}, "float"),
        ({"low": 1, "high": 9, "type": "float"}, "float"),
        ({"low": 0, "high": 1, "step": 0.1}, "float"),
    ],
)
def test_the_type_of_a_parameter_follows_from_its_values(body: dict[str, Any], kind: str) -> None:
    parameter = Parameter.model_validate(body)
    assert parameter.type == kind
    assert Parameter.model_validate(parameter.model_dump(mode="json")) == parameter


@pytest.mark.parametrize(
    ("body", "field", "told"),
    [
        ({}, "low", "give low and high, or choices"),
        ({"low": 1}, "high", "is required"),
        ({"low": 3, "high": 3}, "high", "must be greater than low (3)"),
        ({"low": 0.0, "high": 1.0, "log": True}, "low", "greater than 0"),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "step", "leave one of them out"),
        ({"low": 1, "high": 9, "step": 10}, "step", "greater than the range"),
        ({"low": 0, "high": 1, "step": 1e-12}, "step", "more than 1,000,000 values; use a greater one"),
        ({"low": -1e308, "high": 1e308}, "low", "must be from -1e+300 to 1e+300"),
        ({"low": 0, "high": 10**400, "type": "float"}, "high", "must be from -1e+300 to 1e+300"),
        ({"low": 1.5, "high": 9, "type": "int"}, "type", "use float"),
        ({"choices": [1, 1]}, "choices", "must differ"),
        ({"choices": [1, 2], "low": 1}, "low", "is for numbers"),
        ({"choices": [1, 2], "type": "float"}, "choices", "leave type float out"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_field_and_the_way_out(
    body: dict[str, Any], field: str, told: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        Parameter.model_validate(body)
    error = refused.value.errors()[0]
    assert error["loc"][-1] == field
    assert told in error["msg"]


def test_a_grid_has_every_combination_once_and_no_unused_parameter() -> None:
    found = read(
        training__momentum={"choices": [0.0, 0.9], "when": {"training.optimizer": "sgd"}},
        training__optimizer={"choices": ["adam", "sgd"]},
        training__dropout={"low": 0.0, "high": 0.3, "step": 0.1},
    )
    points = list(space.grid(found))
    assert len(points) == space.grid_size(found) == 4 + 8
    assert len({tuple(sorted(point.items())) for point in points}) == 12
    assert all(("training.momentum" in point) == (point["training.optimizer"] == "sgd") for point in points)
    steps = sorted({point["training.dropout"] for point in points})
    assert steps == [0.0, 0.1, 0.2, 0.3]
    with pytest.raises(InvalidRequest) as refused:
        space.grid_size(read(training__learning_rate={"low": 0.1, "high": 0.2}))
    assert refused.value.errors[0].loc == ("space", "training.learning_rate", "step")


def test_every_bound_is_a_point_in_which_the_parameter_is_used() -> None:
    found = read(
        training__momentum={"low": 0.0, "high": 0.9, "when": {"training.optimizer": ["sgd", "rms"]}},
        training__optimizer={"choices": ["adam", "sgd", "rms"]},
        training__nesterov={"choices": [True, False], "when": {"training.momentum": 0.9}},
    )
    bounds = list(space.bounds(found))
    assert len(bounds) == 2 + 3 + 2
    for path, place, values in bounds:
        parameter = found[path]
        expected = parameter.choices[place] if isinstance(place, int) else getattr(parameter, place)
        assert values[path] == expected
    assert {values.get("training.momentum") for path, _, values in bounds if path == "training.nesterov"} == {0.9}


def test_a_parameter_whose_conditions_contradict_each_other_has_no_bounds() -> None:
    found = read(
        framework={"choices": ["torch", "tensorflow"]},
        freeze={"choices": ["none"], "when": {"framework": "torch"}},
        seed={"low": 1, "high": 3, "when": {"freeze": "none", "framework": "tensorflow"}},
    )
    assert [(path, place) for path, place, _ in space.bounds(found)] == [
        ("framework", 0),
        ("framework", 1),
        ("freeze", 0),
    ]


def test_the_last_value_of_a_parameter_is_one_of_its_steps() -> None:
    for high, last in ((0.3, 0.3), (0.35, 0.3), (0.4, 0.4)):
        parameter = Parameter.model_validate({"low": 0.0, "high": high, "step": 0.1})
        assert space.last_of(parameter) == [*space.values_of(parameter)][-1] == last


@pytest.mark.parametrize(
    ("parameters", "place", "told"),
    [
        ({"priority": {"low": 1, "high": 3}}, ("priority",), "cannot be varied"),
        ({"model": {"choices": [{}]}, "model__dropout": {"low": 0, "high": 0.5}}, ("model.dropout",), "lies inside"),
        ({"seed": {"low": 1, "high": 3, "when": {"model.a": 1}}}, ("seed", "when", "model.a"), "is no parameter"),
        (
            {"seed": {"low": 1, "high": 3, "when": {"framework": "jax"}}, "framework": {"choices": ["torch"]}},
            ("seed", "when", "framework"),
            "is no value of",
        ),
        (
            {"seed": {"low": 1, "high": 3, "when": {"framework": []}}, "framework": {"choices": ["torch"]}},
            ("seed", "when", "framework"),
            "leave the condition out",
        ),
        (
            {
                "seed": {"low": 1, "high": 3, "when": {"freeze": "none"}},
                "freeze": {"choices": ["none"], "when": {"seed": 1}},
            },
            ("seed", "when"),
            "in a circle",
        ),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(parameters: dict[str, Any], place: tuple[str, ...], told: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        space.refuse_unusable(read(**parameters))
    assert refused.value.errors[0].loc == ("space", *place)
    assert told in refused.value.errors[0].msg


def test_values_are_set_at_their_paths_and_the_job_is_not_changed() -> None:
    job = {"kind": "train", "training": {"epochs": 2, "early_stopping": None}}
    made = space.assigned(job, {"training.early_stopping.patience": 3, "model.filters": [8]})
    assert made["training"] == {"epochs": 2, "early_stopping": {"patience": 3}}
    assert made["model"] == {"filters": [8]}
    assert job == {"kind": "train", "training": {"epochs": 2, "early_stopping": None}}
    with pytest.raises(InvalidRequest, match=r"training\.epochs holds no fields"):
        space.assigned(job, {"training.epochs.x": 1})


def test_the_name_of_a_pruner_stands_for_its_defaults() -> None:
    body = {"job": {}, "space": {"seed": {"low": 1, "high": 3}}, "objective": {"metric": "loss"}, "trials": 3}
    spec = SweepSpec.model_validate({**body, "pruner": "asha"})
    assert (spec.pruner.name, spec.pruner.reduction, spec.sampler) == ("asha", 4, "tpe")
    assert list(pairwise(space.ordered(spec.space))) == []
