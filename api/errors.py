"""Turn errors into problem documents (RFC 9457): `type, title, status, detail, instance, errors: [{loc, msg}]`.

A problem never repeats input, except names of fields, made printable: a response with a lone surrogate or NaN cannot be
encoded, and would turn the caller's error into a 500.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy import exc as sql
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from nightshift.errors import ConfigurationError, FieldError, InvalidRequest, RequestError, Unauthorized, Unavailable
from shared.errors import DatabaseUnavailable, StorageUnavailable
from shared.events import emit

MEDIA_TYPE = "application/problem+json"
#: Seconds after which a client may retry when a service does not answer.
RETRY_AFTER = "2"
#: Longest part of a field's path shown (characters); names come from the caller.
_MAX_NAME = 64
_MAX_DETAIL = 2_000


class ProblemResponse(Response):
    """A response of `application/problem+json`."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=True, allow_nan=False).encode()


def problem(
    request: Request,
    *,
    status: int,
    slug: str,
    title: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> ProblemResponse:
    """Return a problem document. `slug` names the problem for programs; `detail` states the remedy for users."""
    body = {
        "type": f"urn:nightshift:problem:{slug}",
        "title": title,
        "status": status,
        "detail": _printable(detail, _MAX_DETAIL),
        "instance": _printable(request.scope.get("path", ""), 300),
        "errors": [{"loc": [_part(part) for part in error.loc], "msg": error.msg} for error in errors],
        **extra,
    }
    return ProblemResponse(body, status_code=status, headers=dict(headers or {}))


def body_of(error: RequestError) -> dict[str, Any]:
    """Return what a problem document says of an error, for an answer to several requests in one."""
    return {
        "type": f"urn:nightshift:problem:{error.slug}",
        "title": error.title,
        "status": error.status,
        "detail": _printable(error.detail, _MAX_DETAIL),
        "errors": [{"loc": [_part(part) for part in one.loc], "msg": one.msg} for one in error.errors],
    }


def _part(part: str | int) -> str | int:
    return part if isinstance(part, int) else _printable(part, _MAX_NAME)


def _printable(text: str, limit: int) -> str:
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text[:limit])
    return shown if len(text) <= limit else shown + "…"


# -- handlers, one per base class of errors -------------------------------------------------------


def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"WWW-Authenticate": 'Bearer realm="nightshift"'} if isinstance(error, Unauthorized) else None
    return problem(
        request,
        status=error.status,
        slug=error.slug,
        title=error.title,
        detail=error.detail,
        errors=error.errors,
        headers=headers,
    )


def _parameters(request: Request, error: Exception) -> Response:
    """Answer 422 for path, query and header parameters, without FastAPI's `input`."""
    assert isinstance(error, RequestValidationError)
    errors = [FieldError(tuple(item["loc"]), str(item["msg"])) for item in error.errors()]
    named = "; ".join(f"{error.loc[-1]}: {error.msg}" for error in errors if error.loc)
    return _request_error(request, InvalidRequest(f"Invalid parameter: {_printable(named, 500)}.", errors))


def _unavailable(request: Request, error: Exception) -> Response:
    if isinstance(error, DatabaseUnavailable | sql.SQLAlchemyError):
        detail = "The database does not answer; nothing was changed. Try again."
    elif isinstance(error, StorageUnavailable):
        emit("storage.unavailable", error=str(error))
        detail = "The storage does not answer; nothing was changed. Try again."
    else:
        detail = str(error)
    return problem(
        request,
        status=503,
        slug="unavailable",
        title="Service unavailable",
        detail=detail,
        headers={"Retry-After": RETRY_AFTER},
    )


def _http(request: Request, error: Exception) -> Response:
    """Answer errors of the router: unknown path (404), wrong method (405)."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    detail = {
        404: "Unknown path; see /docs.",
        405: "This path does not support this method; see the Allow header and /docs.",
    }.get(error.status_code, phrase)
    slug = phrase.lower().replace(" ", "-")
    headers = _allow(request) or error.headers if error.status_code == 405 else error.headers
    return problem(request, status=error.status_code, slug=slug, title=phrase, detail=detail, headers=headers)


def _allow(request: Request) -> dict[str, str]:
    """Return all methods of the path; the router reports only those of its first route."""
    routes = [route for route in request.app.state.routes if route.path_regex.match(request.scope["path"])]
    methods = sorted({method for route in routes for method in route.methods})
    return {"Allow": ", ".join(methods)} if methods else {}


def _unexpected(request: Request, error: Exception) -> Response:
    """Answer 500. The server logs the traceback, which the response does not contain."""
    return problem(
        request,
        status=500,
        slug="internal-error",
        title="Internal error",
        detail="The request failed; the server's log has the cause.",
    )


def _misconfigured(request: Request, error: Exception) -> Response:
    """Answer 503 with what the operator has to correct, such as the encoding of the database."""
    return problem(request, status=503, slug="unready", title="Not ready", detail=str(error))


def install(app: FastAPI) -> None:
    """Add the handlers to the app."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(ConfigurationError, _misconfigured)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(Unavailable, _unavailable)
    for kind in (sql.OperationalError, sql.InterfaceError, sql.TimeoutError):
        app.add_exception_handler(kind, _unavailable)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
