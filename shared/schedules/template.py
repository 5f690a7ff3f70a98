"""`{date}` and `{tick}` in the name and tags of a schedule's job."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from nightshift.errors import InvalidRequest

_FIELD = re.compile(r"\{([^{}]*)\}")


def facts_of(due_at: float, zone: ZoneInfo) -> dict[str, str]:
    """Return `date`, the local date of the tick, and `tick`, its id (UTC), unique within a schedule."""
    return {"date": datetime.fromtimestamp(due_at, zone).date().isoformat(), "tick": tick_id(due_at)}


def tick_id(due_at: float) -> str:
    """Return a tick's id: 20270328T010000Z, or with microseconds if run manually: 20270328T010000.123456Z."""
    moment = datetime.fromtimestamp(due_at, UTC)
    return moment.strftime("%Y%m%dT%H%M%S") + (f".{moment.microsecond:06}" if moment.microsecond else "") + "Z"


def render(job: dict[str, Any], facts: dict[str, str]) -> dict[str, Any]:
    """Return the job's body for one tick. Raises InvalidRequest for an unknown placeholder."""
    rendered = dict(job)
    if isinstance(job.get("name"), str):
        rendered["name"] = _filled(job["name"], facts, ("name",))
    if isinstance(job.get("tags"), dict):
        rendered["tags"] = {
            _filled(key, facts, ("tags", key)): _filled(value, facts, ("tags", key))
            if isinstance(value, str)
            else value
            for key, value in job["tags"].items()
        }
    return rendered


def _filled(text: str, facts: dict[str, str], loc: tuple[str, ...]) -> str:
    def fact(match: re.Match[str]) -> str:
        if match[1] not in facts:
            known = " and ".join(f"{{{name}}}" for name in facts)
            raise InvalidRequest.field(loc, f"has the unknown placeholder {match[0]}; use {known}")
        return facts[match[1]]

    return _FIELD.sub(fact, text)
