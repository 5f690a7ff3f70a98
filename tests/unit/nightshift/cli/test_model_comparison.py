"""`models compare`: which two are meant, and measuring both on one data set."""

from __future__ import annotations

from typing import Any, cast

import pytest

from nightshift.cli import model_comparison
from nightshift.client.client import Client
from nightshift.errors import InvalidRequest

SCORES = {"m@1": {"test_accuracy": 0.9, "old": 1.0}, "m@champion": {"test_accuracy": 0.95}}


class Stub:
    """A client whose jobs have measured SCORES."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def dataset(self, name: str) -> dict[str, Any]:
        return {"version": 4}

    def model(self, name: str) -> dict[str, Any]:
        versions = [{"version": 1, "framework": "torch"}, {"version": 2, "framework": "tensorflow"}]
        return {"aliases": {"champion": 2}, "versions": versions}

    def submit(self, body: dict[str, Any]) -> Any:
        self.bodies.append(body)
        return Measured(body["model_ref"])


class Measured:
    def __init__(self, ref: str) -> None:
        self.id, self.result = f"job of {ref}", {"metrics": SCORES[ref]}

    def wait(self) -> Measured:
        return self


@pytest.mark.parametrize(
    ("refs", "wanted"),
    [
        (["m@1", "m@2"], ("m@1", "m@2")),
        (["m", "1", "champion"], ("m@1", "m@champion")),
        (["m", "n@2"], ("m@champion", "n@2")),
        (["job:abcd", "m"], ("job:abcd", "m@champion")),
    ],
)
def test_two_can_be_named_in_either_way(refs: list[str], wanted: tuple[str, str]) -> None:
    assert model_comparison.pair(refs) == wanted


@pytest.mark.parametrize("refs", [["m"], ["m@1", "1", "2"], ["a", "b", "c", "d"]])
def test_anything_else_is_no_pair(refs: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="Name two"):
        model_comparison.pair(refs)


@pytest.mark.parametrize("refs", [("m@1", "n@1"), ("m@1", "job:abcd")])
def test_what_is_not_of_one_model_has_to_be_measured(refs: tuple[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="--on"):
        model_comparison.registered(cast(Client, Stub()), *refs)


def test_both_are_measured_on_the_same_version_each_in_its_framework() -> None:
    stub = Stub()
    found = model_comparison.measured(cast(Client, stub), "m@1", "m@champion", "digits")
    assert [body["dataset"] for body in stub.bodies] == ["digits@4", "digits@4"]
    assert [body["framework"] for body in stub.bodies] == ["torch", "tensorflow"]
    assert found["metrics"] == {
        "test_accuracy": {"a": 0.9, "b": 0.95, "difference": pytest.approx(0.05)},
        "old": {"a": 1.0, "b": None, "difference": None},
    }
    assert (found["on"], found["jobs"]) == ("digits@4", ["job of m@1", "job of m@champion"])
