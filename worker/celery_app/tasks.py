"""The two Celery tasks. Their arguments are advice from anybody who can reach Redis, and are not looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, signals
from celery.apps import worker as celery_worker

from shared.celery_app import ATTEMPT_TASK, MAINTAIN_TASK
from shared.console import print_line


def hush_celery() -> None:
    """Logging is ours (shared.logging), and so are the words that Celery would print past it."""
    signals.setup_logging.connect(_nothing, weak=False)
    celery_worker.safe_say = lambda text, *_: print_line(text)


def _nothing(**_: Any) -> None: ...


def register_attempt(app: Celery, run_one: Callable[[str | None], None]) -> None:
    """A doorbell rang: `run_one(celery_task_id)` claims the best waiting job, if there still is one, and runs it."""

    @app.task(name=ATTEMPT_TASK, bind=True)  # type: ignore[untyped-decorator]
    def attempt(self: Any, *args: Any, **kwargs: Any) -> None:
        run_one(self.request.id)


def register_maintain(app: Celery, run: Callable[[], None]) -> None:
    # No events: a poke every few seconds would push the attempts out of Flower's memory within hours.
    @app.task(name=MAINTAIN_TASK, send_events=False)  # type: ignore[untyped-decorator]
    def maintain(*args: Any, **kwargs: Any) -> None:
        run()
