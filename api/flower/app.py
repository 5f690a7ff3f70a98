"""`nightshift flower`: Flower on our broker and database."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from flower.app import Flower
from flower.urls import settings as flower_settings
from flower.views.monitor import Healthcheck
from sqlalchemy import Engine
from tornado.ioloop import IOLoop

from api.flower import auth, config
from api.flower.handlers import HANDLERS
from api.flower.headers import StrictHeaders
from api.flower.reconcile import ReconciledEvents
from api.flower.site import Site, make_site
from api.flower.templating import make_loader
from nightshift.errors import ConfigurationError, Unauthorized
from shared import entrypoint
from shared.celery_app import make_celery
from shared.console import print_line
from shared.db.engine import get_engine, read
from shared.fleet import keys
from shared.logging import configure_logging
from shared.plugins import load_plugins
from shared.settings import Settings, load_settings


def build(settings: Settings, engine: Engine) -> Flower:
    """Return the application with key checks and our pages, not yet listening."""
    config.refuse_unsafe(os.environ)
    auth.protect(auth.KeyCheck(lambda key: whose_key(engine, key)))
    options = config.apply(settings)
    load_plugins(settings)
    site = make_site(settings, engine)
    capp = make_celery(settings, role="worker")
    app = Flower(
        capp=capp,
        options=options,
        events=ReconciledEvents(capp, IOLoop.current(), engine, settings.lease_seconds, options.max_tasks),
        **application_settings(site),
    )
    app.transforms.append(StrictHeaders)
    app.add_handlers(r".*", [(site.prefix + path, *rest) for path, *rest in HANDLERS])
    if site.prefix:  # health checks of the process do not use the proxy's prefix
        app.add_handlers(r".*", [(r"/healthcheck", Healthcheck)])
    return app


def application_settings(site: Site) -> dict[str, Any]:
    """Return Flower's Tornado settings, under the prefix, with our templates."""
    ours = {
        "cookie_secret": config.cookie_secret(site.settings.data_dir),
        "static_url_prefix": f"{site.prefix}/static/",
        "login_url": f"{site.prefix}/login",
        "xsrf_cookie_kwargs": {"samesite": "Strict"},
        "compress_response": True,
        "template_loader": make_loader(flower_settings["template_path"]),
        "ui_methods": {"ns_tabs": lambda handler: site.tabs(), "ns_asset": lambda handler, name: site.asset(name)},
        "nightshift": site,
    }
    return {**flower_settings, **ours}


def whose_key(engine: Engine, key: str) -> keys.Principal | None:
    """Return the owner of a key; None for an unknown or revoked one."""
    with read(engine) as conn:
        try:
            return keys.verify(conn, key)
        except Unauthorized:
            return None


def main() -> int:
    """Run Flower until it is stopped; return the exit code."""
    settings = load_settings(**_options(sys.argv[1:]))
    configure_logging(settings, "flower")
    app = build(settings, get_engine())
    try:
        port = app.start_http_server()
    except OSError as error:
        where = f"{settings.flower_host}:{settings.flower_port}"
        raise ConfigurationError(f"cannot listen on {where}: {error.strerror}") from None
    _stop_on_signals(app)
    prefix = app.settings["nightshift"].prefix
    print_line(f"Flower: http://{settings.flower_host}:{port}{prefix} (user {config.USER}, password: an API key)")
    app.start()
    return 0


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the settings given on the command line."""
    parser = argparse.ArgumentParser(prog="nightshift flower", description="Flower with Nightshift's pages.")
    parser.add_argument("--url-prefix", help="path under which a proxy serves it")
    parser.add_argument("--read-only", action="store_true", default=None, help="show everything, change nothing")
    given = vars(parser.parse_args(arguments))
    return {f"flower_{name}": value for name, value in given.items() if value is not None}


def _stop_on_signals(app: Any) -> None:
    def on_signal(number: int, frame: FrameType | None) -> None:
        IOLoop.current().add_callback_from_signal(app.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


if __name__ == "__main__":
    entrypoint.run("flower", main)
