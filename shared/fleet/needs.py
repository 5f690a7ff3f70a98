"""What a job needs of its devices beyond their kind, and which devices of one host meet it: pure functions."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nightshift.errors import FieldError
from shared.specs.training import Resources

#: Bytes of the `GB` that jobs ask for, as vendors count.
GB = 10**9


@dataclass(frozen=True)
class Slot:
    """A device in the ledger: what it is, who serves it, and who holds it."""

    id: str
    host: str
    kind: str  # cpu | gpu
    model: str
    worker: str | None = None
    memory_bytes: int | None = None
    labels: frozenset[str] = frozenset()
    is_cordoned: bool = False
    job_id: str | None = None
    holder: str | None = None
    #: The gang that gets it next, and when that is expected.
    reserved_for: str | None = None
    reserved_until: float | None = None
    #: The highest priority of jobs that may use it before the gang and give way then.
    yields_below: int | None = None
    #: Whether an attempt holds it before the gang.
    is_filler: bool = False

    def is_free_for(self, worker: str) -> bool:
        """Return whether an attempt of the worker may take it. What a worker held itself has ended with its process."""
        return not self.is_cordoned and (self.job_id is None or self.holder == worker)

    @property
    def sort(self) -> tuple[object, ...]:
        """Return what decides which jobs it can run."""
        return self.host, self.model, self.memory_bytes, sorted(self.labels), self.is_cordoned

    @property
    def described(self) -> str:
        """Return what it is: `NVIDIA A100 (85 GB, nvlink)`."""
        memory = [f"{self.memory_bytes / GB:.0f} GB"] if self.memory_bytes else []
        facts = ", ".join([*memory, *sorted(self.labels)])
        return f"{self.model} ({facts})" if facts else self.model


@dataclass(frozen=True)
class Needs:
    """Devices of one host that a job takes at once, and what each must have."""

    devices: int = 1
    memory_gb: float | None = None
    model: str | None = None
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, resources: Resources) -> Needs:
        """Return the needs in a spec."""
        return cls(resources.devices, resources.memory_gb, resources.model, tuple(sorted(set(resources.labels))))

    @classmethod
    def parse(cls, text: str | None) -> Needs:
        """Return the needs that `text` names."""
        found: dict[str, Any] = json.loads(text) if text else {}
        return cls(**{**found, "labels": tuple(found.get("labels", ()))})

    @property
    def text(self) -> str | None:
        """Return them as the text in `jobs.needs`; None: any one device will do."""
        named = {name: value for name, value in vars(self).items() if value != _NO_NEEDS[name]}
        return json.dumps(named, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if named else None

    @property
    def described(self) -> str:
        """Return them as words: `2 devices of one host, at least 40 GB, model A100, label nvlink`."""
        return ", ".join(
            [
                *([f"{self.devices} devices of one host"] if self.devices > 1 else []),
                *([f"at least {self.memory_gb:g} GB"] if self.memory_gb is not None else []),
                *([f"model {self.model}"] if self.model else []),
                *(f"label {label}" for label in self.labels),
            ]
        )

    def fits(self, slot: Slot) -> bool:
        """Return whether the device has what each device of the job must have."""
        return self._has_model(slot) and self._has_memory(slot) and self._has_labels(slot)

    def choose(self, own: Slot, others: Iterable[Slot] = ()) -> list[Slot] | None:
        """Return the devices that a worker takes for the job, its own first; None: too few of them meet the needs."""
        if not self.fits(own):
            return None
        chosen = [own, *(slot for slot in others if self.fits(slot))][: self.devices]
        return chosen if len(chosen) == self.devices else None

    def _has_model(self, slot: Slot) -> bool:
        return self.model is None or self.model.casefold() in slot.model.casefold()

    def _has_memory(self, slot: Slot) -> bool:
        return self.memory_gb is None or (slot.memory_bytes or 0) >= self.memory_gb * GB

    def _has_labels(self, slot: Slot) -> bool:
        return slot.labels.issuperset(self.labels)


_NO_NEEDS = vars(Needs())


def objection(needs: Needs, device: str, slots: Sequence[Slot]) -> FieldError | None:
    """Return why no host that is known can ever meet the needs, with what there is; None: one can.

    Nothing is refused before the first device is known.
    """
    if not slots or needs.text is None:
        return None
    suited = [slot for slot in slots if device in ("auto", slot.kind)]
    tests = (
        ("device", device, lambda slot: True),
        ("model", needs.model, needs._has_model),
        ("memory_gb", needs.memory_gb, needs._has_memory),
        ("labels", list(needs.labels), needs._has_labels),
    )
    for name, value, has in tests:
        suited = [slot for slot in suited if has(slot)]
        if not suited:
            message = f"no device that is known has {value!r} with the rest of resources; there are {there_are(slots)}"
            return FieldError(("resources", name), message)
    if max(Counter((slot.host, slot.kind) for slot in suited).values()) < needs.devices:
        message = f"no host that is known has {needs.devices} such devices of one kind; there are {there_are(slots)}"
        return FieldError(("resources", "devices"), message)
    return None


def there_are(slots: Iterable[Slot]) -> str:
    """Return what the hosts have: `a: 2 × NVIDIA A100 (85 GB); b: 1 × cpu (8 cores) (16 GB)`."""
    hosts: dict[str, Counter[str]] = defaultdict(Counter)
    for slot in slots:
        hosts[slot.host][f"{slot.kind} {slot.described}" if slot.kind == "gpu" else slot.described] += 1
    return "; ".join(
        f"{host}: {', '.join(f'{count} × {what}' for what, count in sorted(found.items()))}"
        for host, found in sorted(hosts.items())
    )
