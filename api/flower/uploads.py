"""Upload of a file from a page: a new version of a data set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import tornado.web
from tornado.ioloop import IOLoop

from api.flower.pages.base import Action, Handler
from api.services.uploads import IncomingFile
from nightshift.errors import InvalidRequest, RequestError
from nightshift.names import DATA_KINDS
from shared.datasets import references, registry
from shared.datasets.formats import FORMATS
from shared.db.engine import read
from shared.errors import StorageUnavailable

#: Bytes above the limit that are read before the error is sent; beyond that the connection is closed.
_READ_ABOVE_LIMIT = 10_000_000
#: Threads for registrations; one takes long and must not occupy the threads that answer requests.
_registering = ThreadPoolExecutor(2, thread_name_prefix="registering")


@tornado.web.stream_request_body
class AddVersion(Action):
    """POST the bytes of one file, `?name=pets&how=add|append&filename=pets.zip&kind=&format=`; registers a version."""

    _file: IncomingFile | None = None
    #: Sent after the whole file was received: a browser that is still sending would report only a broken connection.
    _refusal: RequestError | StorageUnavailable | tornado.web.HTTPError | None = None

    def prepare(self) -> None:
        self._file = IncomingFile(self.site.settings)
        most = self.site.settings.max_upload_bytes + _READ_ABOVE_LIMIT
        declared = self.request.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared[:20]) > most:
            raise self._file.too_large()
        self.request.connection.set_max_body_size(most)
        try:
            super().prepare()
            self._check()
            self._file.open()
        except (RequestError, StorageUnavailable, tornado.web.HTTPError) as error:
            if not hasattr(self, "principal"):
                raise  # without a key, nothing is read
            self._refusal = error

    def _check(self) -> None:
        """Check the parameters before the file is received, which may be large. Raises InvalidRequest, Forbidden."""
        self._name, self._how = self.text_argument("name", 100) or "", self.text_argument("how") or "add"
        self._format, self._filename = self.text_argument("format"), self.text_argument("filename")
        registry.check_name(self._name)
        self._kind = self.text_argument("kind")
        choices = (
            ("how", self._how, ("add", "append")),
            ("kind", self._kind, DATA_KINDS),
            ("format", self._format, FORMATS),
        )
        for name, value, allowed in choices:
            if value is not None and value not in allowed:
                raise InvalidRequest.field((name,), f"must be one of {', '.join(allowed)}")
        with read(self.site.engine) as conn:
            references.require(conn, self._name, self.principal.owner_id)

    async def data_received(self, chunk: bytes) -> None:
        """Write the next bytes to disk."""
        assert self._file is not None
        if self._refusal is None:
            try:
                self._file.add(chunk)
                if self._file.is_due:
                    await self._write(self._file)
            except (RequestError, StorageUnavailable) as error:
                self._refusal = error

    async def _write(self, file: IncomingFile) -> None:
        await Handler.off_loop(self, file.write)  # not on a writer thread: it waits for no database lock

    async def post(self) -> None:
        assert self._file is not None
        if self._refusal is not None:
            raise self._refusal
        await self._write(self._file)
        path = self._file.path
        version = await IOLoop.current().run_in_executor(_registering, lambda: self._register(path))
        self.answer({"message": f"{version.name}@{version.version} registered.", "version": version.version})

    def _register(self, path: Path) -> Any:
        engine, settings = self.site.engine, self.site.settings
        work = registry.append if self._how == "append" else partial(registry.register, kind=self._kind)
        owner_id = self.principal.owner_id
        return work(engine, settings, self._name, path, self._format, filename=self._filename, owner_id=owner_id)

    # -- cleanup ----------------------------------------------------------------------------------

    def finish(self, chunk: Any = None) -> Any:
        self._discard()
        return super().finish(chunk)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._discard()

    def _discard(self) -> None:
        if self._file is not None:
            self._file.discard()
