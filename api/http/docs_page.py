"""The page /docs, which works offline: Swagger UI's files come from a wheel (fastapi-offline), not from a CDN."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from nightshift.errors import ConfigurationError

_FILES = "/docs/files"


def install(app: FastAPI) -> None:
    """Add the page and its files to the app."""
    app.mount(_FILES, StaticFiles(directory=_folder()), name="docs files")

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url=app.openapi_url or "",
            title=f"{app.title} API",
            swagger_js_url=f"{_FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{_FILES}/swagger-ui.css",
            swagger_favicon_url=f"{_FILES}/favicon.png",
        )
        page.headers["Content-Security-Policy"] = _policy(bytes(page.body).decode())
        return page


def _policy(page: str) -> str:
    """Return the Content-Security-Policy: own files, the page's own inline script, and Swagger UI's inline styles."""
    scripts = [sha256(script.encode()).digest() for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)]
    allowed = " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in scripts)
    return (
        f"default-src 'self'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _folder() -> Path:
    """Return the folder of the wheel's files, without importing it (it defines its own application class)."""
    package = find_spec("fastapi_offline")
    if package is None or package.origin is None:
        raise ConfigurationError("the package fastapi-offline is missing: reinstall nightshift with pip")
    return Path(package.origin).parent / "static"
