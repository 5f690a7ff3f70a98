"""Request bodies of POST and PATCH /v1/schedules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nightshift.families.fields import Spec
from shared.specs.base import Name, Patch, Seconds

CronText = Annotated[
    str,
    Field(min_length=1, max_length=100, description="minute hour day-of-month month day-of-week, e.g. `0 2 * * *`."),
]
Zone = Annotated[str, Field(min_length=1, max_length=64, description="An IANA time zone, e.g. Europe/Berlin.")]
JobTemplate = Annotated[
    dict[str, Any],
    Field(description="Body of POST /v1/jobs. `name` and `tags` may contain {date} and {tick}."),
]
Limit = Annotated[int, Field(ge=1, le=1000, description="Largest number of late ticks that `all` makes up for.")]
Lateness = Annotated[Seconds | None, Field(description="Ticks later than this are missed, whatever the policy.")]

Unchanged = Annotated[
    bool,
    Field(
        description="Submit no job while settings, data set versions and parent model equal those of the last success."
    ),
]


class ScheduleSpec(Spec):
    """A new schedule."""

    name: Name
    cron: CronText
    timezone: Zone = "UTC"
    job: JobTemplate
    enabled: bool = True
    catch_up: Literal["none", "latest", "all"] = "latest"
    catch_up_limit: Limit = 10
    max_lateness_seconds: Lateness = None
    overlap: Literal["skip", "queue", "cancel_running"] = "skip"
    skip_if_unchanged: Unchanged = False


class SchedulePatch(Patch):
    """Changes of a schedule; omitted fields stay."""

    NULLABLE = frozenset({"max_lateness_seconds"})

    name: Name | None = None
    cron: CronText | None = None
    timezone: Zone | None = None
    job: JobTemplate | None = None
    enabled: bool | None = None
    catch_up: Literal["none", "latest", "all"] | None = None
    catch_up_limit: Limit | None = None
    max_lateness_seconds: Lateness = None
    overlap: Literal["skip", "queue", "cancel_running"] | None = None
    skip_if_unchanged: Unchanged | None = None
