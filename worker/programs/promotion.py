"""Comparison of a program's new model with the champion, both measured by the program on the same data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shared.errors import BadData
from shared.models import promotion_gate
from shared.models.promotion_gate import Rule
from worker.kinds.promotion import compare_while_it_changes, comparison_of, no_candidate, no_champion_score
from worker.programs.attempt import ProgramRun
from worker.programs.evaluation import PHASE, Evaluate, score
from worker.runners.messages import Assignment, Champion, Comparison
from worker.training.reporter import Reporter

#: Returns the metric that decides, of the model in a folder. Raises BadData.
_Score = Callable[[Path], float]


def compare_with_champion(
    assignment: Assignment, reporter: Reporter, run: ProgramRun, evaluate: Evaluate, rule: Rule
) -> Comparison:
    """Compare the model that the run has registered with the champion."""

    def measured(folder: Path) -> float:
        if assignment.evaluate_dir is None:
            raise BadData("the evaluation set has no folder on this worker")
        return score(evaluate, run, Path(assignment.evaluate_dir), folder, rule.metric)

    reporter.phase(PHASE)
    try:
        candidate = measured(run.model_dir)
    except BadData as error:
        return no_candidate(reporter.champion(), rule, error)
    program = str(assignment.spec["program"])
    return compare_while_it_changes(reporter, lambda champion: _compare(program, measured, candidate, champion, rule))


def _compare(program: str, measured: _Score, candidate: float, champion: Champion, rule: Rule) -> Comparison:
    if champion.version is None:
        return comparison_of(promotion_gate.decide(rule, candidate, None), None, candidate)
    try:
        theirs = _score_of_champion(program, measured, champion)
    except BadData as error:
        return no_champion_score(champion, rule, candidate, error)
    return comparison_of(promotion_gate.decide(rule, candidate, theirs), champion.version, candidate, theirs)


def _score_of_champion(program: str, measured: _Score, champion: Champion) -> float:
    if champion.model_dir is None:
        raise BadData("its files are gone")
    if champion.family != program:
        raise BadData(f"it is a {champion.family}, the new one a {program}")
    return measured(Path(champion.model_dir))
