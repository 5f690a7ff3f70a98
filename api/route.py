"""The route class of /v1: check the key, parse a JSON body strictly, run writes on their own threads.

FastAPI takes a body's type from the endpoint's signature, for validation and for the OpenAPI document. Without this
class it would read a body of any size before the key is checked, keep the last of duplicate keys and accept NaN.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, get_type_hints

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.auth import bearer, require_owner
from api.dependencies import get_service
from api.http.json_body import parse_json
from api.openapi import BODY
from api.services.spec_errors import invalid_spec, parse_as
from api.services.write_threads import WritingRoute
from nightshift.errors import FieldError, InvalidRequest, MalformedRequest, TooLarge, UnsupportedMedia
from shared.db.kept_connection import keep

KEY_HEADER = "idempotency-key"
#: Largest body that is read before its key is checked (bytes).
SMALL = 65_536

Handler = Callable[[Request], Awaitable[Response]]


class Route(WritingRoute):
    """A route whose JSON body is parsed strictly; `spec_errors` describes its errors."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if self.body_field is not None:
            self.responses = BODY | self.responses

    def get_route_handler(self) -> Any:
        """Return the ASGI handler, with strict parsing if the route has a body."""
        handler = super().get_route_handler()
        field = self.body_field
        if field is None:
            return handler
        annotation = get_type_hints(self.endpoint, include_extras=True)[field.name]
        return _strict(handler, annotation, required=field.field_info.is_required())


class DirectRoute(Route):
    """A route without the work of FastAPI's dependencies, for the endpoint that is called most: `POST /v1/jobs`.

    The key is checked and the body parsed on the thread that runs the endpoint. Its parameters are the body and those
    of `_PARAMETERS`; FastAPI reads them only for the OpenAPI document.
    """

    def get_route_handler(self) -> Any:
        """Return the ASGI handler."""
        assert self.body_field is not None
        parse, endpoint = _parser(self.body_field.name, self.described), self.described

        async def handle(request: Request) -> Response:
            service = get_service(request)
            credentials = await bearer(request)
            limit = service.settings.max_body_bytes
            # A large body is read only for a valid key; a small one has usually arrived with the head.
            if not _is_small(request, limit):
                await run_in_threadpool(require_owner, request, service, credentials)
            raw = await _read(request, limit)

            def respond() -> Response:
                with keep(service.engine):
                    owner = require_owner(request, service, credentials)
                    _require_json(request)
                    answer: Response = endpoint(request=request, service=service, owner=owner, **parse(request, raw))
                    return answer

            return await service.writers.run(respond)

        return handle


#: Parameters of a `DirectRoute` besides its body.
_PARAMETERS = frozenset({"request", "service", "owner", "body", "idempotency_key"})


def _parser(name: str, endpoint: Callable[..., Any]) -> Callable[[Request, bytes], dict[str, Any]]:
    hints = get_type_hints(endpoint, include_extras=True)
    unknown = hints.keys() - _PARAMETERS - {name, "return"}
    assert not unknown, f"a DirectRoute has no {unknown}"
    annotation = hints[name]

    def parse(request: Request, raw: bytes) -> dict[str, Any]:
        data = _object_in(raw)
        return {name: parse_as(data, annotation), "body": data, "idempotency_key": request.headers.get(KEY_HEADER)}

    return parse


def _is_small(request: Request, limit: int) -> bool:
    declared = request.headers.get("content-length", "")
    return declared.isdecimal() and int(declared[:20]) <= min(SMALL, limit)


def _object_in(raw: bytes) -> dict[str, Any]:
    data = parse_json(raw)
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.", [FieldError((), "must be a JSON object")])
    return data


def _strict(handler: Handler, annotation: Any, *, required: bool) -> Handler:
    async def handle(request: Request) -> Response:
        service = get_service(request)
        await run_in_threadpool(require_owner, request, service, await bearer(request))
        raw = await _read(request, service.settings.max_body_bytes)
        if not raw and not required:
            return await handler(_Parsed(request, raw, None))
        _require_json(request)
        data = _object_in(raw)
        try:
            return await handler(_Parsed(request, raw, data))
        except RequestValidationError as error:
            raise _most_relevant(error, annotation, data) from None

    return handle


def _most_relevant(error: RequestValidationError, annotation: Any, data: dict[str, Any]) -> Exception:
    """Return the error to raise: errors of parameters take precedence over errors of the body."""
    parameters = [item for item in error.errors() if item["loc"][0] != "body"]
    if parameters:
        return RequestValidationError(parameters)
    return invalid_spec([{**item, "loc": item["loc"][1:]} for item in error.errors()], annotation, data)


class _Parsed(Request):
    """A request whose body has been read and parsed."""

    def __init__(self, request: Request, raw: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._raw, self._value = raw, value

    async def body(self) -> bytes:
        return self._raw

    async def json(self) -> Any:
        return self._value


async def _as_sent(request: Request) -> dict[str, Any]:
    data: dict[str, Any] = await request.json()
    return data


#: The body before defaults are filled in.
AsSent = Annotated[dict[str, Any], Depends(_as_sent)]


async def _read(request: Request, limit: int) -> bytes:
    """Read the body and count it, so that neither a wrong Content-Length nor a chunked body exceeds `limit`."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise _too_large(limit)
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
    except ClientDisconnect:
        raise MalformedRequest("The body ended before its announced length.") from None
    return b"".join(chunks)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body may have at most {limit} bytes.")


def _require_json(request: Request) -> None:
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMedia("Send the body as JSON with the header 'Content-Type: application/json'.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("Send the body without Content-Encoding.")
