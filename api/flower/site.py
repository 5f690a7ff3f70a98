"""State shared by our pages: settings, database, URL prefix and permissions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Engine

from api.dependencies import Service
from api.services.event_feed import EventFeed
from api.services.group_commit import Submissions
from shared import celery_app, doorbell
from shared.fleet.keys import Principal
from shared.settings import Settings

#: Our pages lie below it, beside Flower's own.
ROOT = "/nightshift"


@dataclass(frozen=True)
class Tab:
    """An entry of the navigation bar; ours come before Flower's."""

    name: str
    label: str
    path: str


TABS = (
    Tab("jobs", "Jobs", "/jobs"),
    Tab("models", "Models", "/models"),
    Tab("datasets", "Data sets", "/datasets"),
    Tab("schedules", "Schedules", "/schedules"),
    Tab("devices", "Devices", "/devices"),
)


@dataclass(frozen=True)
class Site:
    settings: Settings
    engine: Engine
    #: What the API's own functions (submit, steer) ask for.
    service: Service

    @property
    def prefix(self) -> str:
        """Return `/flower` under `--url-prefix flower`, else an empty string."""
        stripped = self.settings.flower_url_prefix.strip("/")
        return f"/{stripped}" if stripped else ""

    @property
    def read_only(self) -> bool:
        return self.settings.flower_read_only

    def owner(self, principal: Principal) -> str | None:
        """Return whose jobs a key sees; None: everyone's."""
        return None if self.settings.flower_shows == "everyone" else principal.owner_id

    def url(self, path: str) -> str:
        """Return the URL of one of our pages: `/jobs` -> `/flower/nightshift/jobs`."""
        return f"{self.prefix}{ROOT}{path}"

    def tabs(self) -> list[Tab]:
        return [replace(tab, path=self.url(tab.path)) for tab in TABS]

    def asset(self, name: str) -> str:
        return self.url(f"/static/{name}")


def make_site(settings: Settings, engine: Engine) -> Site:
    service = Service(
        settings, engine, EventFeed(engine), Submissions(engine), ring=doorbell.ring_later, ping=celery_app.ping
    )
    return Site(settings, engine, service)
