"""What a language model's loss says."""

from __future__ import annotations

import math


def with_perplexity(loss: float) -> dict[str, float]:
    """A mean loss (nats per token) with its perplexity."""
    return {"loss": loss, "perplexity": perplexity(loss)}


def perplexity(loss: float) -> float:
    """Of a mean loss (nats per token); beyond what a float holds, infinity."""
    return math.exp(loss) if loss < 700 else math.inf
