"""The benchmarks: none stops another, and ours is compared with the fastest of the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.sides import can_run, in_turns, ratio, table


def test_a_benchmark_that_fails_stops_no_other_and_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = {"cnn": 1, "gan": benchmarks.MISSING, "gru": 0}
    monkeypatch.setattr(benchmarks, "run", codes.__getitem__)
    assert benchmarks.main(list(codes)) == 1, "what is missing is no failure"
    said = capsys.readouterr().out
    assert "1 of 3 benchmarks ran" in said
    assert "cnn: failed with exit code 1" in said
    assert "gan: not run" in said


def test_ours_is_compared_with_the_fastest_rival_of_each_round() -> None:
    rates = {"float32": [100.0, 300.0], "bfloat16": [200.0, 100.0], "ours": [100.0, 300.0], "our job": [1.0, 1.0]}
    assert ratio(rates, "ours", ("ours", "our job")) == "0.75 (0.50 to 1.00)"
    assert table(rates, "ours", "our job").count("\n") == 4


def test_sides_are_measured_in_turns_in_both_orders() -> None:
    asked: list[tuple[str, float]] = []

    def side(name: str) -> object:
        return lambda seconds: asked.append((name, seconds)) or 1.0

    found = in_turns({"a": side("a"), "b": side("b")}, 2, 3.0)  # type: ignore[dict-item]
    assert asked == [("a", 0.0), ("b", 0.0), ("a", 3.0), ("b", 3.0), ("b", 3.0), ("a", 3.0)]
    assert found == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_a_step_without_a_kernel_cannot_run_and_other_errors_are_raised() -> None:
    def raising(message: str) -> Callable[[], object]:
        def step() -> object:
            raise RuntimeError(message)

        return step

    assert can_run(lambda: None)
    assert not can_run(raising("could not create a primitive descriptor for the LSTM forward propagation primitive"))
    with pytest.raises(RuntimeError, match="sizes differ"):
        can_run(raising("sizes differ"))
