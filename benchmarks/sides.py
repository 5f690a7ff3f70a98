"""Sides of a comparison, measured in turns: their rates, with spread, and ours against the best of the others.

Which precision or framework is fastest depends on the machine. So every rival is measured on it, and the ratio is to
the fastest in each round.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import Any

Step = Callable[[], object]
#: Measures for about as many seconds as given; returns units per second.
Measure = Callable[[float], float]
#: What torch says of an operation for which oneDNN has no kernel on the processor.
_NO_KERNEL = "could not create a primitive"
#: Rates of each side, by round.
Rates = dict[str, list[float]]


def by_steps(step: Step, units: int) -> Measure:
    """Return the measure of a step that handles so many units (samples, tokens)."""

    def measure(seconds: float) -> float:
        steps, began = 0, perf_counter()
        while perf_counter() - began < seconds:
            step()
            steps += 1
        return steps * units / (perf_counter() - began)

    return measure


def can_run(step: Step) -> bool:
    """Run a step; return False if torch has no kernel for it: of LSTMs in bfloat16 on processors without AVX-512.

    Raises the step's other errors.
    """
    try:
        step()
    except RuntimeError as error:
        if _NO_KERNEL not in str(error):
            raise
        return False
    return True


def in_turns(sides: Mapping[str, Measure], rounds: int, seconds: float) -> Rates:
    """Measure all sides in each round, every other round in the opposite order, after one that does not count."""
    for measure in sides.values():
        measure(0.0)
    found: Rates = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
            found[name].append(sides[name](seconds))
    return found


def table(rates: Rates, *ours: str) -> str:
    """Return a line for each side: median, lowest and highest rate; for ours, the ratio to the best of the others."""
    width = max(map(len, rates))
    lines = [f"{'':{width}} {'median':>10} {'lowest':>10} {'highest':>10}   to the best other, by round"]
    for name, found in rates.items():
        numbers = " ".join(f"{value:>10.0f}" for value in (statistics.median(found), min(found), max(found)))
        lines.append(f"{name:{width}} {numbers}" + (f"   {ratio(rates, name, ours)}" if name in ours else ""))
    return "\n".join(lines)


def ratio(rates: Rates, name: str, ours: tuple[str, ...]) -> str:
    """Return the median ratio of a side to the best of the others in each round, with its spread."""
    others = [values for other, values in rates.items() if other not in ours]
    found = [mine / max(theirs) for mine, *theirs in zip(rates[name], *others, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


@contextmanager
def own_process(build: Callable[..., Measure], *args: Any, threads: int) -> Iterator[Measure]:
    """Build a side in a process of its own, which sleeps while others are measured. Two frameworks in one process would
    share its threads.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _prepare, (threads, build, args)) as pool:
        yield lambda seconds: pool.submit(_measure, seconds).result()


_built: list[Measure] = []


def _prepare(threads: int, build: Callable[..., Measure], args: tuple[Any, ...]) -> None:
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    _built.append(build(*args))


def _measure(seconds: float) -> float:
    return _built[0](seconds)
