"""Devices kept for gangs: the decision, and days of a mixed load on a simulated clock."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field, replace

import pytest

from shared.fleet.needs import Needs, Slot
from shared.jobs.reservations import Reservation, WaitingGang, may_fill, plan


def slot(name: str, job_id: str | None = None, **facts: object) -> Slot:
    return replace(Slot(name, name.partition("@")[2], "cpu", "cpu", name, job_id=job_id), **facts)  # type: ignore[arg-type]


def gang(job_id: str, devices: int = 2) -> WaitingGang:
    return WaitingGang(job_id, Needs(devices), "auto")


def test_the_host_that_is_free_first_is_kept() -> None:
    slots = [slot("cpu0@a", "x"), slot("cpu1@a"), slot("cpu0@b", "y"), slot("cpu1@b", "z")]
    ends = {"cpu0@a": 500.0, "cpu0@b": 200.0, "cpu1@b": 300.0}
    assert plan([gang("g")], slots, ends, 100.0) == [Reservation("g", ("cpu0@b", "cpu1@b"), 300.0)]


def test_two_gangs_keep_different_devices_and_one_that_has_too_few_none() -> None:
    slots = [slot(f"cpu{number}@a") for number in range(5)]
    found = plan([gang("g"), gang("h"), gang("i")], slots, {}, 0.0)
    assert [one.job_id for one in found] == ["g", "h"]
    assert len({device for one in found for device in one.devices}) == 4


def test_a_gang_keeps_what_it_has_if_nothing_is_free_earlier() -> None:
    slots = [slot("cpu0@a", "x"), slot("cpu1@a", "x"), slot("cpu2@a", "x", reserved_for="g")]
    ends = dict.fromkeys(("cpu0@a", "cpu1@a", "cpu2@a"), 50.0)
    [found] = plan([gang("g", 1)], slots, ends, 0.0)
    assert found.devices == ("cpu2@a",)


def test_an_end_that_is_unknown_comes_last_and_is_said() -> None:
    slots = [slot("cpu0@a", "x"), slot("cpu1@a", "y"), slot("cpu2@a")]
    assert plan([gang("g")], slots, {"cpu0@a": None, "cpu1@a": 9.0}, 0.0)[0].devices == ("cpu2@a", "cpu1@a")
    assert plan([gang("g", 3)], slots, {"cpu0@a": None, "cpu1@a": 9.0}, 0.0)[0].starts_at is None


@pytest.mark.parametrize(
    ("until", "ends", "may"), [(100.0, 99.0, True), (100.0, 101.0, False), (100.0, None, False), (None, 1.0, False)]
)
def test_only_a_job_that_ends_before_fills_the_gap(until: float | None, ends: float | None, may: bool) -> None:
    assert may_fill(slot("cpu0@a", reserved_for="g", reserved_until=until), ends) is may


# -- simulated days ------------------------------------------------------------------------------------

PATIENCE, LONGEST, DAYS, PASS = 600.0, 3600.0, 4 * 86_400.0, 15.0


@dataclass
class Job:
    name: str
    since: float
    seconds: float
    devices: int


@dataclass
class Cluster:
    """Eight slots of one host, whose queue never runs empty; jobs are claimed in the order in which they came."""

    random: random.Random
    now: float = 0.0
    slots: dict[str, Slot] = field(default_factory=lambda: {f"cpu{n}@a": slot(f"cpu{n}@a") for n in range(8)})
    ends: dict[str, float | None] = field(default_factory=dict)
    running: list[tuple[float, str]] = field(default_factory=list)
    queue: list[Job] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    busy: float = 0.0

    def run(self) -> None:
        next_gang, number, next_pass = 0.0, 0, 0.0
        while self.now < DAYS:
            while sum(job.devices == 1 for job in self.queue) < 40:
                number += 1
                self.queue.append(Job(f"s{number}", self.now, self.random.uniform(60, LONGEST), 1))
            if self.now >= next_gang:
                number += 1
                seconds, size = self.random.uniform(600, LONGEST), self.random.choice((2, 2, 3, 4))
                self.queue.append(Job(f"g{number}", self.now, seconds, size))
                next_gang = self.now + self.random.expovariate(1 / 5400)
            if self.now >= next_pass:
                self.keep()
                next_pass = self.now + PASS
            self.claim()
            coming = min(next_gang, next_pass, self.running[0][0] if self.running else DAYS)
            self.busy += (coming - self.now) * sum(one.job_id is not None for one in self.slots.values())
            self.now = coming
            self.end()

    def keep(self) -> None:
        waiting = [job for job in self.queue if job.devices > 1 and self.now - job.since >= PATIENCE]
        gangs = [gang(job.name, job.devices) for job in waiting]
        found_for = plan(gangs, list(self.slots.values()), self.ends, self.now)
        kept = {device: one for one in found_for for device in one.devices}
        for name, one in self.slots.items():
            found = kept.get(name)
            until = found.starts_at if found else None
            self.slots[name] = replace(one, reserved_for=found.job_id if found else None, reserved_until=until)

    def claim(self) -> None:
        for own in [one for one in self.slots.values() if one.job_id is None]:
            for job in self.queue:
                if self.slots[own.id].job_id is None and (chosen := self.chosen(job, self.slots[own.id])):
                    self.start(job, chosen)
                    break

    def chosen(self, job: Job, own: Slot) -> list[Slot] | None:
        if job.devices == 1:
            return [own] if may_fill(own, self.now + job.seconds) else None
        free = [one for one in self.slots.values() if one.job_id is None and one.reserved_for in (None, job.name)]
        return Needs(job.devices).choose(own, [one for one in free if one.id != own.id]) if own in free else None

    def start(self, job: Job, chosen: list[Slot]) -> None:
        self.queue.remove(job)
        for one in chosen:
            self.slots[one.id] = replace(one, job_id=job.name, reserved_for=None, reserved_until=None)
            self.ends[one.id] = self.now + job.seconds
            heapq.heappush(self.running, (self.now + job.seconds, one.id))
        if job.devices > 1:
            self.waits.append(self.now - job.since)
            for name, one in self.slots.items():
                if one.reserved_for == job.name:
                    self.slots[name] = replace(one, reserved_for=None, reserved_until=None)

    def end(self) -> None:
        while self.running and self.running[0][0] <= self.now:
            _, name = heapq.heappop(self.running)
            self.slots[name] = replace(self.slots[name], job_id=None)


@pytest.mark.parametrize("seed", range(3))
def test_no_gang_waits_longer_than_its_patience_and_the_longest_job_and_devices_are_busy(seed: int) -> None:
    cluster = Cluster(random.Random(seed))
    cluster.run()
    assert len(cluster.waits) > 40
    assert max(cluster.waits) <= PATIENCE + LONGEST + PASS
    assert cluster.busy / (DAYS * len(cluster.slots)) >= 0.9
