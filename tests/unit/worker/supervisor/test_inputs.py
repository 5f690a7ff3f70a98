"""A champion that changes while it is compared with is compared with again; the last one told is the one that
counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import BadData
from shared.specs.jobs import TrainJob
from tests.support.factories import make_spec
from worker.families.gru_lm.per_example import WindowScores
from worker.kinds import promotion
from worker.runners.messages import Assignment, Champion, Comparison

PROMOTE = {"metric": "test_loss", "evaluate_on": "digits@1"}
ASSIGNMENT = Assignment(job_id="a", fence=1, spec={}, job_dir="/", work_dir="/")


class Teller:
    """Names one champion after the other."""

    def __init__(self, *versions: int | None) -> None:
        self.versions, self.asked = versions, 0

    def champion(self) -> Champion:
        self.asked += 1
        return Champion(version=self.versions[min(self.asked, len(self.versions)) - 1])


def losses(value: float) -> WindowScores:
    return WindowScores(np.full(4, value), 5, "stream")


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Losses by version of the champion; the new model's is 1."""
    known = {1: 2.0, 2: 0.5, 3: 1.5}

    def of_champion(assignment: Any, new: Any, champion: Champion) -> WindowScores:
        if champion.version not in known:
            raise BadData("its files are gone")
        return losses(known[champion.version])

    monkeypatch.setattr(promotion, "read_model", lambda assignment: type("P", (), {"family": "cnn"}))
    monkeypatch.setattr(promotion, "_score", lambda *_: losses(1.0))
    monkeypatch.setattr(promotion, "_score_champion", of_champion)
    return known


def compare(teller: Teller) -> Comparison:
    job = make_spec(register_as="m", promote=PROMOTE)
    assert isinstance(job, TrainJob)
    found = promotion.compare_with_champion(ASSIGNMENT, teller, job, None, Path())  # type: ignore[arg-type]
    assert found is not None
    return found


def test_one_that_stays_is_compared_with_once() -> None:
    teller = Teller(1, 1)
    assert (compare(teller).better, teller.asked) == (True, 2)


def test_one_that_comes_meanwhile_has_to_be_beaten_too() -> None:
    found = compare(Teller(1, 2, 2))
    assert (found.version, found.better, found.champion) == (2, False, 0.5)


def test_the_first_champion_that_comes_meanwhile_has_to_be_beaten() -> None:
    assert compare(Teller(None, 3, 3)).version == 3
    assert compare(Teller(None, None)).reason == "no champion yet"


def test_one_that_never_rests_is_left_to_the_transaction() -> None:
    teller = Teller(1, 3, 1, 3, 1, 3)
    assert (compare(teller).version, teller.asked) == (1, 4)


def test_one_that_cannot_be_read_stays() -> None:
    found = compare(Teller(7, 7))
    assert (found.better, found.candidate) == (False, 1.0)
    assert "version 7 on digits@1: its files are gone" in found.reason


def test_without_promote_the_supervisor_is_not_asked() -> None:
    teller = Teller(1)
    assert promotion.compare_with_champion(ASSIGNMENT, teller, make_spec(), None, Path()) is None  # type: ignore[arg-type]
    assert teller.asked == 0
