"""Whether a new model is better than the champion, by the rule of its job. Pure: scores in, verdict out."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from nightshift.metrics import Sense, sense
from shared.specs.promotion import Promotion


@dataclass(frozen=True)
class Rule:
    metric: str
    sense: Sense
    min_improvement: float
    confidence: float | None
    #: The evaluation set with its version, and the champion's name: for the reason.
    on: str

    @classmethod
    def of(cls, promote: Promotion) -> Rule:
        better = promote.mode or sense(promote.metric)
        assert better is not None, "the spec was checked"
        return cls(promote.metric, better, promote.min_improvement, promote.confidence, promote.evaluate_on)

    @property
    def sign(self) -> int:
        """What turns a difference of scores into an improvement."""
        return 1 if self.sense == "max" else -1


@dataclass(frozen=True)
class Verdict:
    better: bool
    reason: str


NO_CHAMPION = "no champion yet"


def decide(rule: Rule, candidate: float, champion: float | None, lower: float | None = None) -> Verdict:
    """`champion` None: there is none. `lower`: the least improvement at `rule.confidence`; needed where that is set.

    Better means by more than nothing, and by `min_improvement` at least; at a confidence, both hold for `lower`.
    """
    if not isfinite(candidate):
        return Verdict(False, f"{rule.metric} is {candidate} on {rule.on}")
    if champion is None:
        return Verdict(True, NO_CHAMPION)
    gain = (candidate - champion) * rule.sign if isfinite(champion) else float("inf")
    scores = f"{rule.metric} {candidate:.6g} against the champion's {champion:.6g} on {rule.on}"
    if gain <= 0:
        return Verdict(False, f"{scores}: {'no better' if gain == 0 else f'worse by {-gain:.3g}'}")
    if gain < rule.min_improvement:
        return Verdict(False, f"{scores}: better by {gain:.3g}, which is less than {rule.min_improvement:.3g}")
    if rule.confidence is None or lower is None:
        return Verdict(True, f"{scores}: better by {gain:.3g}")
    sure = f"{scores}: better by {gain:.3g}, at {100 * rule.confidence:g} % confidence by {lower:.3g} at least"
    if lower <= 0 or lower < rule.min_improvement:
        wanted = f"{rule.min_improvement:.3g}" if rule.min_improvement else "more than nothing"
        return Verdict(False, f"{sure}; wanted is {wanted}")
    return Verdict(True, sure)
