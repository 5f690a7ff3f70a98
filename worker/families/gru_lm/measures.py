"""What a language model's loss says."""

from __future__ import annotations

import math


def measures(loss: float) -> dict[str, float]:
    """A mean loss (nats per token) with its perplexity; beyond what a float holds, infinity."""
    return {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}
