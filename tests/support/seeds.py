"""Where tests draw at random: a seed that is printed, can be given, and in CI is always the same."""

from __future__ import annotations

import os
import random

#: What fails in CI shall fail here too, and a rare draw shall not be met by somebody who changed something else.
_IN_CI = 2027


def seed() -> int:
    """NIGHTSHIFT_TEST_SEED if it is set; else another one for each run at a desk."""
    given = os.environ.get("NIGHTSHIFT_TEST_SEED")
    if given is not None:
        return int(given)
    return _IN_CI if os.environ.get("CI") else random.randrange(10**6)
