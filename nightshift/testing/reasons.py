"""The sentence that a check says which fails or is left out."""

from __future__ import annotations

from typing import NoReturn

import pytest

from nightshift.testing import devices


def fail(reason: str) -> NoReturn:
    """Fail the check with one plain sentence, without a traceback."""
    raise pytest.fail.Exception(reason, pytrace=False)


def require(framework: str) -> None:
    """Leave the check out if a framework does not work on the chosen device."""
    if (why := devices.unusable(framework)) is not None:
        pytest.skip(f"{framework} does not work on this GPU: {why}")


def require_exactness() -> None:
    """Leave the check out on a GPU: it tells what is missing by the last bit."""
    if devices.kind() == "gpu":
        pytest.skip("on a GPU no two runs are equal to the last bit")
