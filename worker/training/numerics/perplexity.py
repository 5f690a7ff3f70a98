"""Perplexity of a language model."""

from __future__ import annotations

import math


def with_perplexity(loss: float) -> dict[str, float]:
    """Return a mean loss (nats per token) and its perplexity."""
    return {"loss": loss, "perplexity": perplexity(loss)}


def perplexity(loss: float) -> float:
    """Return the perplexity of a mean loss (nats per token); infinity if it overflows a float."""
    return math.exp(loss) if loss < 700 else math.inf
