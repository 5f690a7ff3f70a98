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
from api.services.spec_errors import invalid_spec
from api.services.write_threads import WritingRoute
from nightshift.errors import FieldError, InvalidRequest, MalformedRequest, TooLarge, UnsupportedMedia

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


def _strict(handler: Handler, annotation: Any, *, required: bool) -> Handler:
    async def handle(request: Request) -> Response:
        service = get_service(request)
        await run_in_threadpool(require_owner, request, service, await bearer(request))
        raw = await _read(request, service.settings.max_body_bytes)
        if not raw and not required:
            return await handler(_Parsed(request, raw, None))
        _require_json(request)
        data = parse_json(raw)
        if not isinstance(data, dict):
            raise InvalidRequest("The body must be a JSON object.", [FieldError((), "must be a JSON object")])
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
