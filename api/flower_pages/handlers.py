"""Our Tornado handlers inside Flower. They are asked before Flower's own, so a path here replaces Flower's page."""

from __future__ import annotations

from typing import Any

import tornado.web
from flower.views.monitor import Metrics as FlowerMetrics


class Metrics(FlowerMetrics):  # type: ignore[misc]
    """Flower shows its Prometheus metrics (worker and task names) to anybody; ours wants a key."""

    @tornado.web.authenticated
    async def get(self) -> None:
        await super().get()


#: Rules as in `tornado.web.Application`. Handlers inherit from `flower.views.BaseHandler` and are `@authenticated`.
HANDLERS: list[Any] = [
    (r"/metrics", Metrics),
]
