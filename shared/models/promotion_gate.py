"""Promotion rule: whether a new model is better than the champion. Pure: scores in, verdict out."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from nightshift.metrics import Sense, sense
from shared.specs.promotion import Promotion


@dataclass(frozen=True)
class Rule:
    """The promotion rule of a job."""

    metric: str
    sense: Sense
    min_improvement: float
    confidence: float | None
    #: The evaluation set with its version, for the reason.
    on: str

    @classmethod
    def of(cls, promote: Promotion) -> Rule:
        better = promote.mode or sense(promote.metric)
        assert better is not None, "the spec was checked"
        return cls(promote.metric, better, promote.min_improvement, promote.confidence, promote.evaluate_on)

    @property
    def sign(self) -> int:
        """Return the factor that turns a difference of scores into an improvement."""
        return 1 if self.sense == "max" else -1


@dataclass(frozen=True)
class Verdict:
    """Decision of a promotion, with its reason."""

    better: bool
    reason: str


NO_CHAMPION = "no champion yet"


def decide(rule: Rule, candidate: float, champion: float | None, lower: float | None = None) -> Verdict:
    """Decide whether `candidate` is better than `champion` (None: there is no champion).

    The improvement must be positive and at least `min_improvement`. With `rule.confidence` set, the same holds for
    `lower`, the lower confidence bound of the improvement.
    """
    if not isfinite(candidate):
        return Verdict(False, f"{rule.metric} is {candidate} on {rule.on}")
    if champion is None:
        return Verdict(True, NO_CHAMPION)
    gain = (candidate - champion) * rule.sign if isfinite(champion) else float("inf")
    scores = f"{rule.metric} {candidate:.6g} against the champion's {champion:.6g} on {rule.on}"
    if gain <= 0:
        return Verdict(False, f"{scores}: {'not better' if gain == 0 else f'worse by {-gain:.3g}'}")
    if gain < rule.min_improvement:
        least = f"min_improvement is {rule.min_improvement:.3g}"
        return Verdict(False, f"{scores}: better by {gain:.3g}, but {least}")
    if rule.confidence is None or lower is None:
        return Verdict(True, f"{scores}: better by {gain:.3g}")
    bound = f"{scores}: better by {gain:.3g}, at {100 * rule.confidence:g} % confidence by at least {lower:.3g}"
    if lower <= 0 or lower < rule.min_improvement:
        least = f"min_improvement is {rule.min_improvement:.3g}" if rule.min_improvement else "this must be above 0"
        return Verdict(False, f"{bound}, but {least}")
    return Verdict(True, bound)
