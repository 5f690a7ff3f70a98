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

#: Path of our pages, beside Flower's own.
ROOT = "/nightshift"


@dataclass(frozen=True)
class Tab:
    """An entry of the navigation bar; ours precede Flower's."""

    name: str
    label: str
    path: str


TABS = (
    Tab("jobs", "Jobs", "/jobs"),
    Tab("models", "Models", "/models"),
    Tab("datasets", "Data sets", "/datasets"),
    Tab("schedules", "Schedules", "/schedules"),
    Tab("sweeps", "Sweeps", "/sweeps"),
    Tab("devices", "Devices", "/devices"),
)


@dataclass(frozen=True)
class Site:
    """The state that all pages share."""

    settings: Settings
    engine: Engine
    #: Argument of the API's functions (api/services).
    service: Service

    @property
    def prefix(self) -> str:
        """Return `/flower` under `--url-prefix flower`, else an empty string."""
        stripped = self.settings.flower_url_prefix.strip("/")
        return f"/{stripped}" if stripped else ""

    @property
    def read_only(self) -> bool:
        """Return whether actions are refused."""
        return self.settings.flower_read_only

    def owner(self, principal: Principal) -> str | None:
        """Return the owner whose jobs a key sees; None: those of all owners."""
        return None if self.settings.flower_shows == "everyone" else principal.owner_id

    def url(self, path: str) -> str:
        """Return the URL of one of our pages: `/jobs` -> `/flower/nightshift/jobs`."""
        return f"{self.prefix}{ROOT}{path}"

    def tabs(self) -> list[Tab]:
        """Return our tabs with their URLs."""
        return [replace(tab, path=self.url(tab.path)) for tab in TABS]

    def asset(self, name: str) -> str:
        """Return the URL of a static file."""
        return self.url(f"/static/{name}")


def make_site(settings: Settings, engine: Engine) -> Site:
    """Return the site of these settings."""
    service = Service(
        settings, engine, EventFeed(engine), Submissions(engine), ring=doorbell.ring_later, ping=celery_app.ping
    )
    return Site(settings, engine, service)
