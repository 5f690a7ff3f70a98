"""The seed of random tests: printed, settable, and always the same in CI."""

from __future__ import annotations

import os
import random

#: Fixed, so that failures in CI can be repeated and do not depend on chance.
_IN_CI = 2027


def seed() -> int:
    """Return NIGHTSHIFT_TEST_SEED if it is set, else a new seed for each local run."""
    given = os.environ.get("NIGHTSHIFT_TEST_SEED")
    if given is not None:
        return int(given)
    return _IN_CI if os.environ.get("CI") else random.randrange(10**6)
