"""Comparison of a new model with the champion on the same frozen test part, in the runner.

The champion is loaded from its canonical weights into the job's framework, whichever framework trained it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nightshift.families.learner import Learner, PerExampleScores
from shared.errors import BadData
from shared.models import promotion_gate
from shared.models.promotion_gate import Rule, Verdict
from shared.specs.jobs import FinetuneJob, TrainJob
from worker import families
from worker.kinds.base_model import TrainedModel, build, read_model
from worker.runners.messages import Assignment, Champion, Comparison
from worker.training.numerics.bootstrap import lower_bound
from worker.training.reporter import Reporter

#: Most comparisons while the champion keeps changing. If it changes again, the promotion is refused at the end.
MAX_COMPARISONS = 3


def compare_with_champion(
    assignment: Assignment, reporter: Reporter, job: TrainJob | FinetuneJob, learner: Learner, model_dir: Path
) -> Comparison | None:
    """Compare the new model (in `learner` and `model_dir`), or return None if the job has no `promote`."""
    if job.promote is None:
        return None
    new = read_model(assignment.model_copy(update={"parent_model_dir": str(model_dir)}))
    rule = Rule.of(job.promote)
    try:
        candidate = _score(assignment, new, learner)
        score = candidate.score(rule.metric)
    except BadData as error:
        return no_candidate(reporter.champion(), rule, error)
    return compare_while_it_changes(
        reporter, lambda champion: _compare(assignment, new, candidate, score, champion, rule)
    )


def compare_while_it_changes(reporter: Reporter, compare: Callable[[Champion], Comparison]) -> Comparison:
    """Compare with the champion, and again if it has changed meanwhile, `MAX_COMPARISONS` times at most."""
    champion, left = reporter.champion(), MAX_COMPARISONS
    while True:
        comparison = compare(champion)
        now, left = reporter.champion(), left - 1
        if now.version == champion.version or not left:
            return comparison
        champion = now


def _score(assignment: Assignment, model: TrainedModel, learner: Learner) -> PerExampleScores:
    if assignment.evaluate_dir is None:
        raise BadData("the evaluation set has no folder on this worker")
    load_test, examples = families.part(model.family, "load_test"), families.part(model.family, "examples")
    splits = load_test(Path(assignment.evaluate_dir), model.model, model.facts, model.tokenizer)
    found: PerExampleScores = examples(learner, splits, model.model)
    return found


def _compare(
    assignment: Assignment,
    new: TrainedModel,
    candidate: PerExampleScores,
    score: float,
    champion: Champion,
    rule: Rule,
) -> Comparison:
    if champion.version is None:
        return comparison_of(promotion_gate.decide(rule, score, None), None, score)
    try:
        other = _score_champion(assignment, new, champion)
        if why := candidate.incomparable(other):
            raise BadData(why)
    except BadData as error:
        return no_champion_score(champion, rule, score, error)
    lower = None
    if rule.confidence is not None:
        lower = lower_bound(candidate, other, rule.metric, rule.sign, rule.confidence)
    theirs = other.score(rule.metric)
    return comparison_of(promotion_gate.decide(rule, score, theirs, lower), champion.version, score, theirs, lower)


def _score_champion(assignment: Assignment, new: TrainedModel, champion: Champion) -> PerExampleScores:
    if champion.model_dir is None:
        raise BadData("its files are gone")
    theirs = read_model(assignment.model_copy(update={"parent_model_dir": champion.model_dir}))
    if theirs.family != new.family:
        raise BadData(f"it is a {theirs.family}, the new one a {new.family}")
    framework = str(new.model.framework)
    # A GAN's feature extractor, for example, is built in the framework of the model's spec.
    theirs = replace(theirs, model=theirs.spec(framework))
    return _score(assignment, theirs, build(theirs, framework, assignment, assignment.threads))


def no_candidate(champion: Champion, rule: Rule, error: BadData) -> Comparison:
    """Return the comparison for a new model that cannot be evaluated."""
    reason = f"the new model cannot be judged on {rule.on}: {error}"
    return Comparison(version=champion.version, candidate=None, champion=None, better=False, reason=reason)


def no_champion_score(champion: Champion, rule: Rule, score: float, error: BadData) -> Comparison:
    """Return the comparison for a champion that cannot be evaluated."""
    reason = f"it cannot be compared with version {champion.version} on {rule.on}: {error}"
    return Comparison(version=champion.version, candidate=score, champion=None, better=False, reason=reason)


def comparison_of(
    verdict: Verdict, version: int | None, candidate: float, champion: float | None = None, lower: float | None = None
) -> Comparison:
    """Return the comparison of a verdict on two scores."""
    return Comparison(
        version=version,
        candidate=candidate,
        champion=champion,
        lower_bound=lower,
        better=verdict.better,
        reason=verdict.reason,
    )
