"""`nightshift webhooks`: commands for HTTP notifications of events."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from nightshift.cli import completion, payload
from nightshift.cli.options import AsJson, client, with_options
from nightshift.cli.registry import group
from nightshift.cli.render import output
from nightshift.cli.render.tables import Field, print_items
from nightshift.errors import InvalidRequest

app = group("webhooks")

Webhook = Annotated[
    str, typer.Argument(metavar="WEBHOOK", help="Name or id of the webhook.", autocompletion=completion.webhooks)
]
Events = Annotated[
    list[str] | None,
    typer.Option(
        "--event",
        metavar="EVENT",
        help="Send this event, e.g. job.failed or model.promoted. Repeatable.",
        autocompletion=completion.events,
    ),
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Only jobs with this tag. Repeatable.")
]
Match = Annotated[str | None, typer.Option(help='Only jobs or models whose name matches, e.g. "digits*".')]
Format = Annotated[str | None, typer.Option(help="event (JSON), or slack (one line of text).")]
Limit = Annotated[int, typer.Option("-n", "--limit", help="Number of rows.")]

#: Time `test` waits for its delivery (seconds): enough for a maintenance interval and a slow receiver.
TEST_PATIENCE = 45.0


@app.callback()
def _default(ctx: typer.Context, as_json: AsJson = False) -> None:
    if not ctx.invoked_subcommand:
        list_webhooks(ctx, as_json)


@app.command("list")
def list_webhooks(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the webhooks."""
    empty = "No webhooks. Add one with `nightshift webhooks add NAME https://example.com/hook`."
    print_items(client(ctx).webhooks(), FIELDS, empty, as_json=as_json)


def _state(shown: dict[str, Any]) -> str:
    if shown["enabled"]:
        return "enabled"
    return "disabled" if shown["disabled_reason"] else "paused"


def _answer(delivery: dict[str, Any]) -> str | None:
    return delivery["error"] or (f"HTTP {delivery['status']}" if delivery["status"] else None)


FIELDS = {
    "name": Field("name"),
    "state": Field(_state),
    "url": Field("url", 1),
    "events": Field(lambda item: " ".join(item["events"]), 2),
}
DELIVERY_FIELDS = {
    "id": Field("id"),
    "event": Field("event_type"),
    "state": Field("state"),
    "tries": Field("attempts", 1),
    "age": Field(lambda item: output.age(item["created_at"]), 2, right=True),
    "next": Field("next_at", 4),
    "answer": Field(_answer, 3),
}


def _filters(events: Events = None, tags: Tags = None, match: Match = None, format: Format = None) -> dict[str, Any]:
    """Return the fields of a webhook that these options give."""
    given = {"events": events, "tags": payload.tags(tags) if tags else None, "match": match, "format": format}
    return {name: value for name, value in given.items() if value not in (None, [])}


@app.command("add")
@with_options(_filters)
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the webhook, unique among yours.")],
    url: Annotated[str, typer.Argument(help="URL that receives the POST requests, e.g. https://example.com/hook.")],
    *,
    as_json: AsJson = False,
    **given: Any,
) -> None:
    """Add a webhook, which sends events to a URL. Prints the signing secret, which is not shown again."""
    shown = client(ctx).add_webhook({"name": name, "url": url, **_filters(**given)})
    if as_json:
        return output.print_json(shown)
    print(shown["secret"])
    output.print_note(
        f"{name} receives {', '.join(shown['events'])}. The secret is not shown again: give it to the receiver, then "
        f"send a test with `nightshift webhooks test {name}`."
    )
    return None


@app.command("change")
@with_options(_filters)
def change(
    ctx: typer.Context,
    webhook: Webhook,
    url: Annotated[str | None, typer.Option(help="URL that receives the POST requests.")] = None,
    *,
    anything: Annotated[bool, typer.Option("--all", help="Remove the --tag and --match filters.")] = False,
    as_json: AsJson = False,
    **given: Any,
) -> None:
    """Change the given fields of a webhook. --event replaces all previous events."""
    changes = {**({"tags": {}, "match": None} if anything else {}), **_filters(**given)}
    if url is not None:
        changes["url"] = url
    if not changes:
        raise InvalidRequest("Nothing to change: give an option, such as --event; `webhooks change --help` lists them.")
    _show(client(ctx).change_webhook(webhook, **changes), as_json)


@app.command("show")
def show(ctx: typer.Context, webhook: Webhook, as_json: AsJson = False) -> None:
    """Show a webhook, without its secret."""
    _show(client(ctx).webhook(webhook), as_json)


def _show(shown: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return output.print_json(shown)
    facts: list[tuple[str, Any]] = [(name, shown[name]) for name in ("id", "name", "url", "events")]
    facts.append(("tags", output.tag_texts(shown)))
    facts += [("match", shown["match"]), ("format", shown["format"]), ("state", _state(shown))]
    facts += [("reason", shown["disabled_reason"]), ("old secret until", shown["old_secret_until"])]
    return output.print_facts(facts)


@app.command("test")
def send_test(ctx: typer.Context, webhook: Webhook, as_json: AsJson = False) -> None:
    """Send a test event and wait for the response. Exit code 1 if the delivery fails."""
    api = client(ctx)
    sent = api.test_webhook(webhook)
    give_up = time.monotonic() + TEST_PATIENCE
    while not sent["attempts"] or (sent["state"] == "pending" and sent["error"] is None):
        if time.monotonic() > give_up:
            output.print_note(f"The test was not sent within {TEST_PATIENCE:.0f} s. Check that `nightshift beat` runs.")
            raise typer.Exit(1)
        time.sleep(0.25)
        sent = api.delivery(webhook, sent["id"])
    if as_json:
        output.print_json(sent)
    else:
        took = f"{sent['milliseconds']:.0f} ms"
        print(f"arrived: HTTP {sent['status']} in {took}" if sent["error"] is None else f"failed: {sent['error']}")
    if sent["error"] is not None:
        raise typer.Exit(1)


@app.command("deliveries")
def deliveries(
    ctx: typer.Context,
    webhook: Webhook,
    state: Annotated[str | None, typer.Option(help="pending, delivered or dead.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the deliveries of a webhook with their results, newest first."""
    found = client(ctx).deliveries(webhook, state, limit)
    print_items(found, DELIVERY_FIELDS, "The webhook has no deliveries yet.", as_json=as_json)


@app.command("redeliver")
def redeliver(
    ctx: typer.Context,
    webhook: Webhook,
    delivery: Annotated[str, typer.Argument(help="Id of the delivery, from `deliveries`.")],
) -> None:
    """Send a dead or delivered event again, with the same webhook-id."""
    print(f"{client(ctx).redeliver(webhook, delivery)['id']} will be sent again")


@app.command("rotate")
def rotate(ctx: typer.Context, webhook: Webhook, as_json: AsJson = False) -> None:
    """Replace the secret of a webhook. For a day, the old and the new one both sign."""
    shown = client(ctx).rotate_webhook(webhook)
    if as_json:
        return output.print_json(shown)
    print(shown["secret"])
    output.print_note(f"The old secret also signs until {shown['old_secret_until']}.")
    return None


@app.command("pause")
def pause(ctx: typer.Context, webhook: Webhook) -> None:
    """Pause a webhook until `resume`. Events in between are not sent later."""
    print(f"{client(ctx).change_webhook(webhook, enabled=False)['name']} paused")


@app.command("resume")
def resume(ctx: typer.Context, webhook: Webhook) -> None:
    """Resume a webhook that is paused, or was disabled because its receiver failed."""
    print(f"{client(ctx).change_webhook(webhook, enabled=True)['name']} enabled")


@app.command("remove")
def remove(ctx: typer.Context, webhook: Webhook) -> None:
    """Remove a webhook and its deliveries, sent or not."""
    client(ctx).remove_webhook(webhook)
    print(f"{webhook} removed")
