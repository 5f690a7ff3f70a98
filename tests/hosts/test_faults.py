"""Faults of hosts and of the network between them, briefly; `python -m tests.hosts.nemesis` for as long as you like."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightshift.testing import seeds
from tests.hosts import nemesis
from tests.hosts.container_engine import ContainerEngine
from tests.hosts.site import open_site

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
FAULTS = 60


def test_random_faults_of_hosts_break_no_promise(containers: ContainerEngine, folder: Path) -> None:
    seed = seeds.seed()
    print(f"seed {seed}: python -m tests.hosts.nemesis --seed {seed} --faults {FAULTS}")
    with open_site(containers, folder) as site:
        round_ = nemesis.run(site, seed, FAULTS, 15.0)
    print(nemesis.told(round_))
    assert round_.violations == []
    assert sum(round_.faults.values()) >= FAULTS
