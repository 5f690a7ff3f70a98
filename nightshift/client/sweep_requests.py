"""Calls about sweeps; see `requests`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from nightshift.client.requests import Call, Pages, Request, get, key_header, send
from nightshift.client.types import SweepData
from nightshift.errors import InvalidRequest

#: A sweep's id, or a prefix of one.
_ID = re.compile(r"[0-9a-f]{4,16}")


def submit_sweep(
    spec: Mapping[str, Any] | None = None, idempotency_key: str | None = None, **fields: Any
) -> Call[SweepData]:
    """Submit a sweep: `spec`, or a spec made of `fields`. Given both, the fields replace those of the spec."""
    body = {**(spec or {}), **fields}
    return cast("SweepData", (yield send("POST", "sweeps", body, safe=True, headers=key_header(idempotency_key))))


def sweeps(limit: int | None = None) -> Pages:
    """Return the pages of the sweeps, newest first."""
    return Pages("sweeps", None, limit)


def sweep(sweep_id: str) -> Call[SweepData]:
    """Return a sweep by its id or a unique prefix of it (4 characters or more). Raises `NotFound`, `Conflict`."""
    if not _ID.fullmatch(sweep_id):
        raise InvalidRequest(f"{sweep_id!r} is not a sweep id: use all 16 hexadecimal digits or at least the first 4.")
    return cast("SweepData", (yield get(f"sweeps/{sweep_id}")))


def control(sweep_id: str, verb: str) -> Call[SweepData]:
    """Request pause, resume, stop or cancel. Return the sweep after that."""
    return cast("SweepData", (yield Request("POST", f"sweeps/{sweep_id}/{verb}", True)))


def add_trials(sweep_id: str, count: int) -> Call[SweepData]:
    """Add trials to a sweep; one that has ended runs again."""
    return cast("SweepData", (yield send("POST", f"sweeps/{sweep_id}/trials", {"count": count}, safe=False)))


def delete(sweep_id: str) -> Call[None]:
    """Delete a sweep that has ended, with its trials; their jobs are kept. Raises `Conflict` before."""
    yield Request("DELETE", f"sweeps/{sweep_id}", True)
