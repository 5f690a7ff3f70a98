"""A file that a page sends, streamed to disk: counted while it comes in, never held in memory, gone after its request."""

from __future__ import annotations

import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import tornado.web
from tornado.ioloop import IOLoop

from api.flower.pages.base import Action, Handler
from nightshift.errors import InvalidRequest, RequestError, TooLarge
from shared.datasets import references, registry
from shared.datasets.formats import FORMATS
from shared.db.engine import read

#: Bytes gathered before a thread writes them.
_WRITE_BYTES = 1_000_000
#: How much of what is too large is read, to say so; beyond that the connection is closed.
_SWALLOWED = 10_000_000
#: Registrations at a time; one takes long and must not hold the threads that answer requests.
_registering = ThreadPoolExecutor(2, thread_name_prefix="registering")


@tornado.web.stream_request_body
class AddVersion(Action):
    """POST the bytes of one file, `?name=pets&how=add|append&filename=pets.zip&format=`: a new version."""

    _folder: Path | None = None
    _file: BinaryIO | None = None
    _pending: bytearray
    _size = 0
    #: Said when all has come: a browser that is still sending would hear of a broken connection only.
    _refusal: RequestError | tornado.web.HTTPError | None = None

    def prepare(self) -> None:
        self._limit = self.site.settings.max_upload_bytes
        declared = self.request.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared[:20]) > self._limit + _SWALLOWED:
            raise self._too_large()
        self.request.connection.set_max_body_size(self._limit + _SWALLOWED)
        self._pending = bytearray()
        try:
            super().prepare()
            self._check()
            self._open()
        except (RequestError, tornado.web.HTTPError) as error:
            if not hasattr(self, "principal"):
                raise  # nothing is read of who has no key
            self._refusal = error

    def _check(self) -> None:
        """Raises InvalidRequest, Forbidden: before the file comes, which may be large."""
        self._name, self._how = self.text_argument("name", 100) or "", self.text_argument("how") or "add"
        self._format, self._filename = self.text_argument("format"), self.text_argument("filename")
        registry.check_name(self._name)
        for name, value, allowed in (("how", self._how, ("add", "append")), ("format", self._format, FORMATS)):
            if value is not None and value not in allowed:
                raise InvalidRequest.field((name,), f"there are {', '.join(allowed)}")
        with read(self.site.engine) as conn:
            references.require(conn, self._name, self.principal.owner_id)

    def _open(self) -> None:
        self._folder = self.site.settings.storage_root / "uploads" / uuid.uuid4().hex
        try:
            self._folder.mkdir(parents=True)
            self._file = (self._folder / "upload").open("wb")
        except OSError as error:
            raise _unwritten(error) from error

    def _too_large(self) -> TooLarge:
        return TooLarge(f"An upload may have at most {self._limit} bytes (NIGHTSHIFT_MAX_UPLOAD_BYTES).")

    async def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit:
            self._refusal = self._too_large()
        if self._refusal is None:
            self._pending += chunk
            if len(self._pending) >= _WRITE_BYTES:
                await self._write()

    async def _write(self) -> None:
        data, self._pending = self._pending, bytearray()
        if self._file is not None:
            try:
                await Handler.off_loop(self, partial(self._file.write, data))  # which waits for no lock
            except OSError as error:
                self._refusal = _unwritten(error)

    async def post(self) -> None:
        if self._refusal is None:
            await self._write()
        if self._refusal is not None:
            raise self._refusal
        assert self._file is not None
        self._file.close()
        path = Path(self._file.name)
        version = await IOLoop.current().run_in_executor(_registering, lambda: self._register(path))
        self.answer({"message": f"{version.name}@{version.version} is registered.", "version": version.version})

    def _register(self, path: Path) -> Any:
        engine, settings = self.site.engine, self.site.settings
        work = registry.append if self._how == "append" else registry.register
        owner_id = self.principal.owner_id
        return work(engine, settings, self._name, path, self._format, filename=self._filename, owner_id=owner_id)

    # -- afterwards -------------------------------------------------------------------------------

    def finish(self, chunk: Any = None) -> Any:
        self._forget()
        return super().finish(chunk)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._forget()

    def _forget(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _unwritten(error: OSError) -> tornado.web.HTTPError:
    return tornado.web.HTTPError(503, f"The storage cannot be written: {error.strerror}. Nothing was kept.")
