"""Base classes of our pages and data handlers, which check keys and read SQL off the event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import tornado.web
from flower.views import BaseHandler
from sqlalchemy import Connection
from tornado.ioloop import IOLoop

from api.flower.facts import facts
from api.flower.site import Site
from api.http.json_body import parse_json
from nightshift.errors import FieldError, InvalidRequest, MalformedRequest, NotFound, RequestError, Unavailable
from shared.db.engine import dump_json, read, write
from shared.errors import StorageUnavailable
from shared.fleet.keys import Principal

T = TypeVar("T")
#: A function that returns the data of a page, or acts and returns the answer; it takes the handler and the parts of the
#: address.
Look = Callable[..., Awaitable[Any]]


class Handler(BaseHandler):  # type: ignore[misc]
    """Requires a key. Answers errors of `nightshift.errors` with their own status."""

    principal: Principal
    #: The invalid fields, when an error is answered.
    wrong: Sequence[FieldError] = ()

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        _ = self.current_user  # raises 401

    @property
    def site(self) -> Site:
        """Return the state that all pages share."""
        site: Site = self.settings["nightshift"]
        return site

    @property
    def owner(self) -> str | None:
        """Return the owner whose jobs are shown; None: those of all owners."""
        return self.site.owner(self.principal)

    async def off_loop(self, work: Callable[[], T]) -> T:
        """Run blocking work on Flower's threads."""
        return await IOLoop.current().run_in_executor(self.application.executor, work)

    async def query(self, select: Callable[[Connection], T]) -> T:
        """Run a read in one transaction, off the event loop."""

        def work() -> T:
            with read(self.site.engine) as conn:
                return select(conn)

        return await self.off_loop(work)

    async def send(self, pieces: Iterator[bytes]) -> None:
        """Send the pieces of a file, which are read off the event loop."""
        while piece := await self.off_loop(lambda: next(pieces, b"")):
            self.write(piece)
            await self.flush()

    def text_argument(self, name: str, longest: int = 200) -> str | None:
        """Return the argument as sent (Flower's `get_argument` escapes it), or None. Raises InvalidRequest."""
        values = self.request.query_arguments.get(name, [])
        if not values:
            return None
        text = values[-1].decode("utf-8", "replace").strip()
        if len(text) > longest or any(ord(char) < 32 for char in text):
            raise InvalidRequest.field((name,), f"at most {longest} characters, without control characters")
        return text or None

    def number_argument(self, name: str, default: int, lowest: int, highest: int) -> int:
        """Return the argument as an integer. Raises InvalidRequest."""
        text = self.text_argument(name, 20)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and lowest <= int(text) <= highest):
            raise InvalidRequest.field((name,), f"must be a whole number from {lowest} to {highest}")
        return int(text)

    # -- errors -----------------------------------------------------------------------------------

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log internal errors only."""
        if not isinstance(value, RequestError | Unavailable):
            super().log_exception(typ, value, tb)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer an error with its status and message."""
        error = (kwargs.get("exc_info") or (None, None))[1]
        if isinstance(error, RequestError):
            status_code = error.status
        elif isinstance(error, Unavailable):
            status_code = 503
        self.wrong = error.errors if isinstance(error, RequestError) else ()
        self.set_status(status_code)
        if status_code == 401:
            super().write_error(status_code, **kwargs)
        else:
            self.show_error(status_code, message_for(error))

    def show_error(self, status_code: int, message: str) -> None:
        """Render an error page."""
        if not hasattr(self, "principal"):
            self.current_user = None  # do not check the key again while an error is rendered
        self.render("ns_error.html", tab="", title=f"Error {status_code}", config=self.config(), message=message)

    # -- values for templates ---------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Return the settings for static/js/site.js."""
        return {
            "root": self.site.url(""),
            "prefix": self.site.prefix,
            "readOnly": self.site.read_only,
            "xsrf": self.xsrf_token.decode(),
            "facts": facts(),
        }


_MESSAGES = {
    404: "Page not found.",
    405: "This page does not support this HTTP method.",
}


def message_for(error: BaseException | None) -> str:
    """Return the message for an error; internal errors are not shown."""
    if isinstance(error, RequestError):
        wrong = "; ".join(f"{'.'.join(map(str, item.loc))}: {item.msg}" for item in error.errors)
        return wrong or error.detail
    if isinstance(error, StorageUnavailable):
        return f"The storage does not answer or cannot be written: {error}. Nothing was changed."
    if isinstance(error, Unavailable):
        return "The database does not answer. Nothing is lost; this page retries."
    if isinstance(error, tornado.web.HTTPError):
        return str(error.log_message or _MESSAGES.get(error.status_code) or HTTPStatus(error.status_code).phrase)
    return "Internal error: see the log of `nightshift flower`."


class Page(Handler):
    """Renders one of our templates with its `data`, so that the first view needs no further request."""

    tab = ""

    def show(self, template: str, title: str, data: Any = None, **values: Any) -> None:
        """Render the page."""
        # The data must not end or reopen the script element that contains it.
        inlined = dump_json(data).replace("<", "\\u003c")
        self.render(template, tab=self.tab, title=title, config=self.config(), data=inlined, **values)


class View(Page):
    """A page that shows what a function returns; `title` None: the first part of its address."""

    def initialize(self, view: Look, template: str, tab: str, title: str | None) -> None:
        self._view, self._template, self.tab, self._title = view, template, tab, title

    async def get(self, *parts: str) -> None:
        self.show(self._template, self._title or parts[0], await self._view(self, *parts))


class Missing(Page):
    """Answers 404 for all other paths below our pages."""

    def get(self) -> None:
        raise NotFound("Page not found.")


class Data(Handler):
    """Answers JSON, also for errors: `{"error": …, "errors": [{loc, msg}]}`. Polled; unchanged data is a 304."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "private, no-cache")

    def answer(self, value: Any) -> None:
        """Finish the response with a JSON value."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(dump_json(value))

    def show_error(self, status_code: int, message: str) -> None:
        self.answer({"error": message, "errors": [{"loc": item.loc, "msg": item.msg} for item in self.wrong]})


class ViewData(Data):
    """Answers what a function returns; a page polls it."""

    def initialize(self, view: Look) -> None:
        self._view = view

    async def get(self, *parts: str) -> None:
        self.answer(await self._view(self, *parts))


class Action(Data):
    """A POST that changes something: refused in read-only mode, and without the page's token."""

    async def off_loop(self, work: Callable[[], T]) -> T:
        """Run blocking work on the writer threads, so that waiting for the database's lock delays no page."""
        return await self.site.service.writers.run(work)

    async def change(self, work: Callable[[Connection], T]) -> T:
        """Run a change in one transaction."""

        def run() -> T:
            with write(self.site.engine) as conn:
                return work(conn)

        return await self.off_loop(run)

    def check_xsrf_cookie(self) -> None:
        super().check_xsrf_cookie()
        tornado.web.RequestHandler.check_xsrf_cookie(self)

    def prepare(self) -> None:
        super().prepare()
        if self.site.read_only:
            raise tornado.web.HTTPError(403, "Flower is read-only here (NIGHTSHIFT_FLOWER_READ_ONLY).")

    def body(self) -> dict[str, Any]:
        """Return the JSON object in the body, {} without a body. Raises MalformedRequest, InvalidRequest."""
        value = parse_json(self.request.body or b"{}")
        if not isinstance(value, dict):
            raise MalformedRequest("The body must be a JSON object.")
        return value


class ActionOf(Action):
    """Does what a function does, and answers what it returns."""

    def initialize(self, act: Look) -> None:
        self._act = act

    async def post(self, *parts: str) -> None:
        self.answer(await self._act(self, *parts))


class Assets(tornado.web.StaticFileHandler):
    """Scripts, styles and the chart library, which hold no data and, like Flower's own, need no key."""

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")  # revalidated by ETag, so that an upgrade takes effect at once
