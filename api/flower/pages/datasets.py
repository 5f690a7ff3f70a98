"""Pages of data sets: the list, one data set with its versions and a preview, and adding and deleting versions.

Every key may see them; only keys of a data set's owner may change it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api.flower.pages.base import Action, Data, Handler
from nightshift.names import DATA_KINDS
from shared import ownership
from shared.datasets import overview, previews, references, registry
from shared.datasets.formats import FORMATS
from shared.datasets.models import DatasetVersion


async def listed(handler: Handler) -> dict[str, Any]:
    """Return the data of the list."""
    asking, settings = handler.principal.owner_id, handler.site.settings
    found = await handler.query(lambda conn: ownership.with_owner(conn, overview.overview(conn, settings), asking))
    return {"datasets": found, **upload_facts(handler)}


def upload_facts(handler: Handler) -> dict[str, Any]:
    """Return the facts for the dialog that adds a file."""
    return {
        "data_kinds": list(DATA_KINDS),
        "formats": list(FORMATS),
        "max_upload_bytes": handler.site.settings.max_upload_bytes,
    }


async def dataset(handler: Handler, ref: str) -> dict[str, Any]:
    """Return the data of one data set. Raises NotFound."""
    before, settings = handler.number_argument("before", 0, 0, 10**9) or None, handler.site.settings
    asking = handler.principal.owner_id

    def select(conn: Connection) -> dict[str, Any]:
        return ownership.with_owner(conn, [overview.detail(conn, settings, ref, handler.owner, before)], asking)[0]

    return await handler.query(select) | upload_facts(handler)


class DatasetSample(Data):
    """Preview of a version: a picture of some images, or the beginning of a text. It is cached."""

    async def get(self, ref: str) -> None:
        version = await self.query(lambda conn: registry.resolve(conn, ref))
        self.set_header("Etag", f'"{version.sha256}"')
        if self.check_etag_header():
            self.set_status(304)
            return
        content, media_type = await self.off_loop(lambda: self._sample(version))
        self.set_header("Content-Type", media_type)
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        self.finish(content)

    def _sample(self, version: DatasetVersion) -> tuple[bytes, str]:
        with registry.hold_dataset(self.site.settings, version) as folder:
            return previews.preview(folder)


async def delete_version(handler: Action, name: str, version: str) -> dict[str, Any]:
    """Delete a version."""
    asking = handler.principal.owner_id
    await handler.change(lambda conn: references.delete_version(conn, name, int(version), asking))
    return {"message": f"{name}@{version} deleted."}
