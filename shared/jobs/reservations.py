"""Which devices are kept for gangs that have waited long enough: a pure decision, written by `transitions.reserving`.

Without it, small jobs would take each device that comes free, and a gang would wait for ever. A gang whose patience has
ended gets the devices of one host that are expected free first. Until then only jobs that end before it is expected to
start, or give way to it, may use them, so it waits for its patience and for the longest job that runs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.fleet.needs import Needs, Slot


@dataclass(frozen=True)
class WaitingGang:
    """A gang that has waited long enough."""

    job_id: str
    needs: Needs
    device: str  # auto | cpu | gpu
    priority: int = 5
    #: The workers with its framework and plug-in; None: all.
    workers: frozenset[str] | None = None

    def suits(self, slot: Slot) -> bool:
        """Return whether it can run on the device."""
        is_served = self.workers is None or slot.worker in self.workers
        return self.device in ("auto", slot.kind) and is_served and self.needs.fits(slot)


@dataclass(frozen=True)
class Reservation:
    """The devices that a gang gets, and when they are expected to be free; None: unknown."""

    job_id: str
    devices: tuple[str, ...]
    starts_at: float | None


def plan(
    gangs: Iterable[WaitingGang], slots: Sequence[Slot], ends: Mapping[str, float | None], now: float
) -> list[Reservation]:
    """Return the reservations of these gangs, in the order of the claim.

    `slots` are the devices that attempts may take, `ends` when the job that holds one ends at the latest, by device;
    None: unknown. A gang keeps the devices that it has unless others are free earlier.
    """
    left = {slot.id: slot for slot in slots}
    found: list[Reservation] = []
    for gang in gangs:
        if (best := _best(gang, left.values(), ends, now)) is not None:
            found.append(best)
            for device in best.devices:
                del left[device]
    return found


def _best(gang: WaitingGang, slots: Iterable[Slot], ends: Mapping[str, float | None], now: float) -> Reservation | None:
    hosts: dict[tuple[str, str], list[tuple[float, bool, str]]] = defaultdict(list)
    for slot in slots:
        if gang.suits(slot):
            hosts[slot.host, slot.kind].append((_free_at(slot, ends, now), slot.reserved_for != gang.job_id, slot.id))
    offers = [sorted(found)[: gang.needs.devices] for found in hosts.values() if len(found) >= gang.needs.devices]
    if not offers:
        return None
    best = min(offers, key=lambda offer: (offer[-1][0], sum(is_new for _, is_new, _ in offer), offer))
    starts_at = best[-1][0]
    return Reservation(gang.job_id, tuple(device for _, _, device in best), starts_at if starts_at < math.inf else None)


def _free_at(slot: Slot, ends: Mapping[str, float | None], now: float) -> float:
    if slot.job_id is None or slot.is_filler:  # a filler gives way
        return now
    end = ends.get(slot.id)
    return math.inf if end is None else max(now, end)


def may_fill(slot: Slot, latest_end: float | None) -> bool:
    """Return whether a job that ends by then at the latest may use a device before the gang that it is kept for."""
    if slot.reserved_for is None:
        return True
    return slot.reserved_until is not None and latest_end is not None and latest_end <= slot.reserved_until
