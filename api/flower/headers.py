"""Security headers of every response: our pages, Flower's own pages, API and files, and errors."""

from __future__ import annotations

from tornado.httputil import HTTPHeaders
from tornado.web import OutputTransform

#: Scripts and data only from this server, and no framing by other sites. A name or log line that is not escaped by
#: mistake still runs no script.
STRICT = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class StrictHeaders(OutputTransform):
    """Adds the headers to every response, as a Tornado transform."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in STRICT.items():
            headers.setdefault(name, value)
        return status_code, headers, chunk
