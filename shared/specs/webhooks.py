"""Request bodies of POST and PATCH /v1/webhooks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nightshift.families.fields import Spec
from shared.specs.base import Label, Name, Patch
from shared.webhooks.models import EventType

#: Default: how jobs end, and decisions on promotions.
DEFAULT_EVENTS = [
    EventType.JOB_SUCCEEDED.value,
    EventType.JOB_FAILED.value,
    EventType.JOB_CANCELLED.value,
    EventType.MODEL_PROMOTED.value,
    EventType.MODEL_PROMOTION_REFUSED.value,
    EventType.MODEL_ROLLED_BACK.value,
]


def _event(value: str) -> str:
    if value not in set(EventType):
        raise ValueError(f"unknown event {value!r}; events: {', '.join(EventType)}")
    return value


Events = Annotated[
    list[Annotated[str, AfterValidator(_event)]],
    Field(min_length=1, max_length=50, description=f"Any of {', '.join(f'`{name.value}`' for name in EventType)}."),
]
Url = Annotated[str, Field(min_length=1, max_length=2000, description="https://, to a public address.")]
Tags = Annotated[dict[Label, Label], Field(max_length=50, description="Tags that a job must all have.")]
Match = Annotated[
    Label | None, Field(description="A pattern for the name of the job or the model, e.g. `digits*`; null: any.")
]
Format = Literal["event", "slack"]


class WebhookSpec(Spec):
    """A new webhook."""

    name: Name
    url: Url
    events: Events = DEFAULT_EVENTS
    tags: Tags = {}
    match: Match = None
    format: Format = "event"
    enabled: bool = True


class WebhookPatch(Patch):
    """Changes of a webhook; omitted fields stay."""

    NULLABLE = frozenset({"match"})

    name: Name | None = None
    url: Url | None = None
    events: Events | None = None
    tags: Tags | None = None
    match: Match = None
    format: Format | None = None
    enabled: bool | None = None
