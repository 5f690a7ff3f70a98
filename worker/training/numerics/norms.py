"""Normalization layers: their constants and weights, the same in all families and both frameworks.

`batch` keeps running_var unbiased; `layer` normalizes over all numbers of an example and scales per channel. Both add
NORM_EPS to the variance.
"""

from __future__ import annotations

from nightshift.families.layers import RUNNING as RUNNING

NORM_EPS = 1e-5
#: Weight of a batch in the running statistics.
NORM_MOMENTUM = 0.1
#: Normalization of a spec -> the weights of a layer.
NORM_WEIGHTS: dict[str, tuple[str, ...]] = {
    "none": (),
    "layer": ("weight", "bias"),
    "batch": ("weight", "bias", "running_mean", "running_var"),
}
