"""Times in specs: RFC 3339 with an offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
#: Allowed years: from the epoch to the last one that survives a change of zone.
_FIRST_YEAR, _LAST_YEAR = 1970, 9998


def seconds_of(text: str) -> float:
    """Return seconds since the epoch, 0 or more. Raises ValueError that says what is allowed."""
    if not _RFC_3339.fullmatch(text):
        raise ValueError("use RFC 3339 with an offset, like 2027-01-31T02:00:00+01:00")
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError("there is no such date or time of day") from None
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise ValueError(f"the year must be between {_FIRST_YEAR} and {_LAST_YEAR}")
    return max(time.astimezone(UTC).timestamp(), 0.0)


def _checked(text: str) -> str:
    seconds_of(text)
    return text


Time = Annotated[str, Field(max_length=40), AfterValidator(_checked)]
