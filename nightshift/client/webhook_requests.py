"""Calls about webhooks, each named by its id or its name; see `requests`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nightshift.client.requests import Call, Data, Request, collect, get, send
from nightshift.client.resources import Delivery, Webhook, each


def webhooks() -> Call[list[Webhook]]:
    return each(Webhook, (yield from collect("webhooks")))


def webhook(webhook: str) -> Call[Webhook]:
    return Webhook((yield get(_path(webhook))))


def add_webhook(spec: Data) -> Call[Webhook]:
    """`{"name": …, "url": "https://…", "events": ["job.failed"]}`; the answer holds the `secret`, this once."""
    return Webhook((yield send("POST", "webhooks", spec)))


def change_webhook(webhook: str, **changes: Any) -> Call[Webhook]:
    """Fields that are not given stay; `enabled=False` pauses."""
    return Webhook((yield send("PATCH", _path(webhook), changes, safe=True)))


def remove_webhook(webhook: str) -> Call[None]:
    """With its deliveries, sent or not."""
    yield Request("DELETE", _path(webhook), True)


def rotate_webhook(webhook: str) -> Call[Webhook]:
    """A new `secret`; the one before signs beside it for a day."""
    return Webhook((yield Request("POST", f"{_path(webhook)}/rotate", False)))


def test_webhook(webhook: str) -> Call[Delivery]:
    """The delivery of a test, not sent yet."""
    return Delivery((yield Request("POST", f"{_path(webhook)}/test", False)))


def deliveries(webhook: str, state: str | None = None, limit: int | None = None) -> Call[list[Delivery]]:
    """Newest first; `state` is pending, delivered or dead."""
    return each(Delivery, (yield from collect(f"{_path(webhook)}/deliveries", {"state": state}, limit)))


def delivery(webhook: str, delivery: str) -> Call[Delivery]:
    """With its `body`."""
    return Delivery((yield get(f"{_path(webhook)}/deliveries/{quote(delivery, safe='')}")))


def redeliver(webhook: str, delivery: str) -> Call[Delivery]:
    """Sends a settled delivery again; raises `Conflict` when it is not settled."""
    return Delivery((yield Request("POST", f"{_path(webhook)}/deliveries/{quote(delivery, safe='')}/redeliver", False)))


def _path(webhook: str) -> str:
    return f"webhooks/{quote(webhook, safe='')}"
