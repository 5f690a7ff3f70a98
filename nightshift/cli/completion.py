"""Shell completion of ids, names and presets from the API. It prints no errors and has a short timeout.

`nightshift --install-completion` sets it up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import typer

from nightshift import names

if TYPE_CHECKING:
    from nightshift.client.client import Client

#: Number of newest jobs offered.
OFFERED = 100
#: Timeout of a request (seconds): the shell blocks meanwhile.
PATIENCE = 1.5

Found = list[tuple[str, str]]
Completer = Callable[[typer.Context, str], Found]


def _from_api(look: Callable[[Client], Iterable[tuple[str, str]]]) -> Completer:
    """Return a completer of what `look` finds; it offers nothing if the API does not answer."""

    def complete(ctx: typer.Context, incomplete: str) -> Found:
        from nightshift.client.client import Client

        given = ctx.find_root().params
        try:
            with Client(
                given.get("url"), given.get("key"), data_dir=given.get("data_dir"), retries=0, timeout=PATIENCE
            ) as api:
                return [(value, help) for value, help in look(api) if value.startswith(incomplete)]
        except Exception:  # a traceback would garble the line that is being typed
            return []

    return complete


def _fixed(*values: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def _jobs(client: Client) -> Iterable[tuple[str, str]]:
    for job in client.jobs(limit=OFFERED):
        yield job.id, " ".join(str(word) for word in (job.state, job.data.get("kind"), job.data.get("name")) if word)


def _models(client: Client) -> Iterable[tuple[str, str]]:
    for model in client.models():
        yield model["name"], f"{model.get('family')}, latest @{model.get('latest_version')}"


def _versions(client: Client) -> Iterable[tuple[str, str]]:
    for model in client.models():
        for number in range(int(model.get("latest_version") or 0), 0, -1):
            yield f"{model['name']}@{number}", str(model.get("family"))


def _model_refs(client: Client) -> Iterable[tuple[str, str]]:
    yield from _models(client)
    for job in client.jobs(state="succeeded", limit=OFFERED):
        yield f"job:{job.id}", str(job.data.get("name") or job.data.get("kind"))


def _named(collection: str, *facts: str) -> Completer:
    """Return a completer of the names in a collection, each with the first of these facts that it has."""

    def look(client: Client) -> Iterable[tuple[str, str]]:
        for item in getattr(client, collection)():
            yield item["name"], str(next(filter(None, map(item.get, facts)), ""))

    return _from_api(look)


def _devices(client: Client) -> Iterable[tuple[str, str]]:
    for device in client.devices():
        yield str(device["worker"] or device["id"]), str(device["model"])


def _of_family(look: Callable[[dict[str, Any]], Iterable[tuple[str, str]]]) -> Completer:
    """Return a completer of what `look` finds in the family that the command names, or in all."""

    def complete(ctx: typer.Context, incomplete: str) -> Found:
        # Before an option's value, Click has not given the arguments their names yet.
        name = ctx.params.get("family") or next(iter(ctx.args), None)

        def found(client: Client) -> Iterable[tuple[str, str]]:
            for family in client.families():
                if name in (None, family.get("name")):
                    yield from look(family)

        return _from_api(found)(ctx, incomplete)

    return complete


def _presets(family: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for preset in family.get("presets") or []:
        yield str(preset), str(family.get("name"))


def _settings(family: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for name, fact in (family.get("model_schema") or {}).get("properties", {}).items():
        if name not in ("family", "framework", "preset"):
            yield f"{name}=", str(fact.get("description") or "")


job_ids, models, versions = _from_api(_jobs), _from_api(_models), _from_api(_versions)
model_refs, presets, settings = _from_api(_model_refs), _of_family(_presets), _of_family(_settings)
datasets, programs = _named("datasets", "kind", "availability"), _named("programs", "package")
families = _named("families", "description")
schedules, webhooks = _named("schedules", "cron"), _named("webhooks", "url")
events = _fixed(
    "job.started", "job.paused", "job.retried", "job.succeeded", "job.failed", "job.cancelled", "model.promoted",
    "model.promotion_refused", "model.alias_moved", "model.rolled_back", "model.version_deleted",
)  # fmt: skip
states = _fixed("waiting", "queued", "running", "paused", "succeeded", "failed", "cancelled")
kinds = _fixed(*names.KINDS)
frameworks = _fixed(*names.FRAMEWORKS)
devices, device_names = _fixed("auto", "cpu", "gpu"), _from_api(_devices)
