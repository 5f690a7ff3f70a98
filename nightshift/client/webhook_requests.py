"""The calls about webhooks, each named by its id or its name; see `calls`."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

from nightshift.client.requests import Call, Data, Request, collect, get, send


def webhooks() -> Call[list[Data]]:
    return (yield from collect("webhooks"))


def webhook(webhook: str) -> Call[Data]:
    return cast("Data", (yield get(_path(webhook))))


def add_webhook(spec: Data) -> Call[Data]:
    """`{"name": …, "url": "https://…", "events": ["job.failed"]}`; the answer holds the `secret`, this once."""
    return cast("Data", (yield send("POST", "webhooks", spec)))


def change_webhook(webhook: str, **changes: Any) -> Call[Data]:
    """Fields that are not given stay; `enabled=False` pauses."""
    return cast("Data", (yield send("PATCH", _path(webhook), changes, safe=True)))


def remove_webhook(webhook: str) -> Call[None]:
    """With its deliveries, sent or not."""
    yield Request("DELETE", _path(webhook), True)


def rotate_webhook(webhook: str) -> Call[Data]:
    """A new `secret`; the one before signs beside it for a day."""
    return cast("Data", (yield Request("POST", f"{_path(webhook)}/rotate", False)))


def test_webhook(webhook: str) -> Call[Data]:
    """The delivery of a test, not sent yet."""
    return cast("Data", (yield Request("POST", f"{_path(webhook)}/test", False)))


def deliveries(webhook: str, state: str | None = None, limit: int | None = None) -> Call[list[Data]]:
    """Newest first; `state` is pending, delivered or dead."""
    return (yield from collect(f"{_path(webhook)}/deliveries", {"state": state}, limit))


def delivery(webhook: str, delivery: str) -> Call[Data]:
    """With its `body`."""
    return cast("Data", (yield get(f"{_path(webhook)}/deliveries/{quote(delivery, safe='')}")))


def redeliver(webhook: str, delivery: str) -> Call[Data]:
    """Sends a settled delivery again; raises `Conflict` when it is not settled."""
    return cast(
        "Data", (yield Request("POST", f"{_path(webhook)}/deliveries/{quote(delivery, safe='')}/redeliver", False))
    )


def _path(webhook: str) -> str:
    return f"webhooks/{quote(webhook, safe='')}"
