"""Calls about webhooks, by id or by name; see `requests`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nightshift.client.requests import Call, Data, Request, collect, get, send
from nightshift.client.resources import Delivery, Webhook, each


def webhooks() -> Call[list[Webhook]]:
    """Return the webhooks."""
    return each(Webhook, (yield from collect("webhooks")))


def webhook(webhook: str) -> Call[Webhook]:
    """Return a webhook by its id or name. Raises `NotFound`."""
    return Webhook((yield get(_path(webhook))))


def add_webhook(spec: Data) -> Call[Webhook]:
    """Create a webhook: `{"name": …, "url": "https://…", "events": ["job.failed"]}`.

    The result has the signing `secret`, which is not shown again. Raises `Conflict` if the name is taken.
    """
    return Webhook((yield send("POST", "webhooks", spec)))


def change_webhook(webhook: str, **changes: Any) -> Call[Webhook]:
    """Change the given fields of a webhook; `enabled=False` pauses it."""
    return Webhook((yield send("PATCH", _path(webhook), changes, safe=True)))


def remove_webhook(webhook: str) -> Call[None]:
    """Remove a webhook and its deliveries, sent or not."""
    yield Request("DELETE", _path(webhook), True)


def rotate_webhook(webhook: str) -> Call[Webhook]:
    """Replace the webhook's `secret` and return the new one. For a day, both sign each delivery."""
    return Webhook((yield Request("POST", f"{_path(webhook)}/rotate", False)))


def test_webhook(webhook: str) -> Call[Delivery]:
    """Create a test delivery and return it; it is not sent yet. Raises `Conflict` if the webhook is paused."""
    return Delivery((yield Request("POST", f"{_path(webhook)}/test", False)))


def deliveries(webhook: str, state: str | None = None, limit: int | None = None) -> Call[list[Delivery]]:
    """Return the webhook's deliveries, newest first; `state` is pending, delivered or dead."""
    return each(Delivery, (yield from collect(f"{_path(webhook)}/deliveries", {"state": state}, limit)))


def delivery(webhook: str, delivery: str) -> Call[Delivery]:
    """Return a delivery with its `body`. Raises `NotFound`."""
    return Delivery((yield get(f"{_path(webhook)}/deliveries/{quote(delivery, safe='')}")))


def redeliver(webhook: str, delivery: str) -> Call[Delivery]:
    """Send a settled delivery again. Raises `Conflict` if it is still pending."""
    return Delivery((yield Request("POST", f"{_path(webhook)}/deliveries/{quote(delivery, safe='')}/redeliver", False)))


def _path(webhook: str) -> str:
    return f"webhooks/{quote(webhook, safe='')}"
