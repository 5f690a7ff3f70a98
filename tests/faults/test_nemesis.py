"""The nemesis, briefly: `python -m tests.faults.nemesis` runs as long as you like, `make chaos` for 45 minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightshift.testing import seeds
from tests.faults import nemesis

FAULTS = 15


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_faults_break_no_promise(tmp_path: Path) -> None:
    seed = seeds.seed()
    print(f"seed {seed}: python -m tests.faults.nemesis --seed {seed} --faults {FAULTS}")
    round_ = nemesis.run(seed, FAULTS, "sqlite", 5.0, tmp_path)
    assert round_.violations == []
    assert sum(round_.faults.values()) >= FAULTS
    assert round_.kills > 0
