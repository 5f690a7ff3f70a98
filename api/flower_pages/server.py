"""`nightshift flower`: one Flower over our broker and database."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from flower.app import Flower
from flower.urls import settings as flower_settings
from sqlalchemy import Engine
from tornado.ioloop import IOLoop

from api.flower_pages import auth, config
from api.flower_pages.handlers import HANDLERS
from api.flower_pages.truth import TrueEvents
from shared import process
from shared.broker import make_celery
from shared.db.engine import get_engine, read
from shared.errors import ConfigurationError, Unauthorized
from shared.fleet import keys
from shared.observability import configure_logging
from shared.settings import Settings, get_settings


def build(settings: Settings, engine: Engine) -> Flower:
    """The application, protected and with our pages, not yet listening."""
    config.refuse_unsafe(os.environ)
    auth.protect(auth.KeyCheck(lambda key: is_key(engine, key)))
    options = config.apply(settings)
    capp = make_celery(settings, role="worker")
    app = Flower(
        capp=capp,
        options=options,
        events=TrueEvents(capp, IOLoop.current(), engine, settings.lease_seconds, options.max_tasks),
        **flower_settings | {"cookie_secret": config.cookie_secret(settings.data_dir)},
    )
    app.add_handlers(r".*", HANDLERS)
    return app


def is_key(engine: Engine, key: str) -> bool:
    with read(engine) as conn:
        try:
            keys.verify(conn, key)
        except Unauthorized:
            return False
    return True


def main() -> int:
    settings = get_settings()
    configure_logging(settings, "flower")
    app = build(settings, get_engine())
    try:
        port = app.start_http_server()
    except OSError as error:
        where = f"{settings.flower_host}:{settings.flower_port}"
        raise ConfigurationError(f"cannot listen on {where}: {error.strerror}") from None
    _stop_on_signals(app)
    print(f"Flower: http://{settings.flower_host}:{port} (user {config.USER}, password: an API key)", flush=True)
    app.start()
    return 0


def _stop_on_signals(app: Any) -> None:
    def on_signal(number: int, frame: FrameType | None) -> None:
        IOLoop.current().add_callback_from_signal(app.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


if __name__ == "__main__":
    process.run("flower", main)
