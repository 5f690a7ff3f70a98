"""A sweep as a study of Optuna, rebuilt in memory from the rows of its trials whenever it is asked.

Only the process of maintenance imports this module, and only while a sweep needs it. The rows are Optuna's state:
parameters, values, reports, and the attributes that its samplers and pruners keep with a trial. So it does not matter
which process asked before, and whether it still lives. The draws of a trial depend on the seed and its number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from shared.specs.sweeps import Parameter
from shared.sweeps import models, space
from shared.sweeps.space import Values

optuna.logging.set_verbosity(optuna.logging.WARNING)

#: Trials whose parameters are drawn at random before TPE chooses.
STARTUP_TRIALS = 10
#: Trials with a value before the importance of the parameters is estimated.
LEAST_FOR_IMPORTANCE = 8

_STATES = {
    models.TrialState.RUNNING: TrialState.RUNNING,
    models.TrialState.COMPLETE: TrialState.COMPLETE,
    models.TrialState.PRUNED: TrialState.PRUNED,
    models.TrialState.FAILED: TrialState.FAIL,
    models.TrialState.CANCELLED: TrialState.FAIL,
}


class SweepStudy:
    """A study with the trials of a sweep."""

    def __init__(self, sweep: Any, trials: Sequence[Any]) -> None:
        self._sweep = sweep
        self._space = space.read(sweep.space)
        self._paths = space.ordered(self._space)
        self._distributions = {path: distribution_of(one) for path, one in self._space.items()}
        #: The pruner compares values of a curve, which may have another better side than the objective.
        self._sign = 1.0 if sweep.pruner.get("direction") in (None, sweep.direction) else -1.0
        self._study = optuna.create_study(
            direction="maximize" if sweep.direction == "max" else "minimize",
            pruner=_pruner(sweep.pruner),
        )
        for row in trials:
            self._study.add_trial(self._frozen(row))

    def _frozen(self, row: Any) -> FrozenTrial:
        state = _STATES[models.TrialState(row.state)]
        if state is TrialState.PRUNED and not row.reports:  # finished early by a user
            state = TrialState.COMPLETE
        return create_trial(
            state=state,
            value=row.value,
            params={path: self._encoded(path, value) for path, value in row.params.items()},
            distributions={path: self._distributions[path] for path in row.params},
            system_attrs=dict(row.attrs),
            intermediate_values={place: self._sign * value for place, value in enumerate(row.reports, 1)},
        )

    def _encoded(self, path: str, value: Any) -> Any:
        """Return a choice as its place: Optuna takes no lists or objects."""
        choices = self._space[path].choices
        return value if choices is None else choices.index(value)

    def __len__(self) -> int:
        return len(self._study.get_trials(deepcopy=False))

    def ask(self) -> tuple[Values, dict[str, Any]]:
        """Add the next trial, as one that runs; return its parameters, and what Optuna keeps with it."""
        self._study.sampler = _sampler(self._sweep, len(self))
        trial = self._study.ask()
        values: Values = {}
        for path in self._paths:
            if space.is_used(self._space[path], values):
                values[path] = self._suggested(trial, path)
        return values, dict(self._study.get_trials(deepcopy=False)[trial.number].system_attrs)

    def _suggested(self, trial: Trial, path: str) -> Any:
        parameter, one = self._space[path], self._distributions[path]
        if isinstance(one, CategoricalDistribution):
            assert parameter.choices is not None
            return parameter.choices[int(trial.suggest_categorical(path, one.choices))]  # type: ignore[arg-type]
        if isinstance(one, IntDistribution):
            return int(trial.suggest_int(path, one.low, one.high, step=one.step, log=one.log))
        assert isinstance(one, FloatDistribution)
        return float(trial.suggest_float(path, one.low, one.high, step=one.step, log=one.log))

    def decide(self, number: int, values: Sequence[float]) -> tuple[int, bool, dict[str, Any]]:
        """Show the pruner the next reports of a running trial, up to the one after which it prunes.

        Returns how many it has seen, whether it prunes, and what Optuna keeps with the trial.
        """
        frozen = self._study.get_trials(deepcopy=False)[number]
        trial = Trial(self._study, frozen._trial_id)
        before = len(frozen.intermediate_values)
        seen, prune = 0, False
        for seen, value in enumerate(values, 1):
            trial.report(self._sign * value, before + seen)
            prune = trial.should_prune()
            if prune:
                break
        return seen, prune, dict(self._study.get_trials(deepcopy=False)[number].system_attrs)

    def importance(self) -> dict[str, float] | None:
        """Return the share of each parameter in the differences of the objective; None: too few trials to tell."""
        done = [one for one in self._study.get_trials(deepcopy=False) if one.state is TrialState.COMPLETE]
        values = {one.value for one in done}
        if len(done) < LEAST_FOR_IMPORTANCE or len(values) < 2:
            return None
        found = optuna.importance.get_param_importances(self._study)
        return {path: float(share) for path, share in found.items() if math.isfinite(share)} or None


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """Return the distribution of a parameter; of choices, that of their places."""
    if parameter.choices is not None:
        return CategoricalDistribution(tuple(range(len(parameter.choices))))
    low, high, step = parameter.low, parameter.high, parameter.step
    assert low is not None
    assert high is not None
    if parameter.type == "int":
        whole = 1 if step is None else int(step)
        return IntDistribution(int(low), int(high) - (int(high) - int(low)) % whole, log=parameter.log, step=whole)
    if step is None:
        return FloatDistribution(float(low), float(high), log=parameter.log)
    return FloatDistribution(float(low), space.last_of(parameter), step=float(step))


def _sampler(sweep: Any, number: int) -> BaseSampler:
    seed = int(np.random.SeedSequence([sweep.seed, number]).generate_state(1)[0])
    match sweep.sampler:
        case "random":
            return RandomSampler(seed=seed)
        case "cmaes":
            return CmaEsSampler(
                seed=seed, independent_sampler=RandomSampler(seed=seed), warn_independent_sampling=False
            )
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True)
        case "grid":
            return RandomSampler(seed=seed)  # never asked: `next_point`
    raise ValueError(f"unknown sampler {sweep.sampler!r}")


def _pruner(settings: Mapping[str, Any]) -> BasePruner:
    match settings["name"]:
        case "median":
            return MedianPruner(n_startup_trials=settings["startup_trials"], n_warmup_steps=settings["warmup"])
        case "asha":
            return SuccessiveHalvingPruner(min_resource=settings["min_points"], reduction_factor=settings["reduction"])
    return NopPruner()
