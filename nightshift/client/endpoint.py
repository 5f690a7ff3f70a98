"""The API's URL and key: from arguments, then the environment (or `.env`), then the data folder.

`nightshift up` writes `endpoints.json` and `api_key` to its data folder, so on that machine nothing has to be set. They
are read without `shared.settings`, whose import would slow down the start of the client.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_DATA_DIR = "nightshift-data"


@dataclass(frozen=True)
class Endpoint:
    """A URL and a key, each with its origin, which error messages name."""

    url: str
    url_from: str
    key: str | None
    key_from: str


def find(url: str | None = None, key: str | None = None, data_dir: str | Path | None = None) -> Endpoint:
    """Return the API's URL and key. Given `data_dir`, its files come before the environment."""
    folder = Path(data_dir or _setting("NIGHTSHIFT_DATA_DIR") or DEFAULT_DATA_DIR).resolve()
    found_url, url_from = _url(url, folder, data_dir is not None)
    found_key, key_from = _key(key, folder, data_dir is not None)
    return Endpoint(found_url.rstrip("/"), url_from, found_key, key_from)


def _url(url: str | None, folder: Path, folder_first: bool) -> tuple[str, str]:
    if url:
        return url, "as given"
    setting, noted = _setting("NIGHTSHIFT_API_URL"), _noted_url(folder)
    if noted and (folder_first or not setting):
        return noted, f"from {folder / 'endpoints.json'}"
    if setting:
        return setting, "from NIGHTSHIFT_API_URL"
    return DEFAULT_URL, f"the default; there is no {folder / 'endpoints.json'} and NIGHTSHIFT_API_URL is not set"


def _key(key: str | None, folder: Path, folder_first: bool) -> tuple[str | None, str]:
    if key:
        return key, "The key was given as an argument."
    setting, path = _setting("NIGHTSHIFT_API_KEY"), folder / "api_key"
    noted, trouble = _key_file(path)
    if noted and (folder_first or not setting):
        return noted, f"The key came from {path}."
    if setting:
        return setting, "The key came from NIGHTSHIFT_API_KEY."
    return None, f"No key was found: NIGHTSHIFT_API_KEY is not set and {path} {trouble}."


def _key_file(path: Path) -> tuple[str | None, str]:
    try:
        return path.read_text(encoding="utf-8").strip() or None, "is empty"
    except FileNotFoundError:
        return None, "does not exist"
    except (OSError, UnicodeDecodeError) as error:
        return None, f"cannot be read ({getattr(error, 'strerror', None) or error})"


def _noted_url(folder: Path) -> str | None:
    """Return the URL in the data folder's `endpoints.json`; None if the file is missing or damaged."""
    try:
        note = json.loads((folder / "endpoints.json").read_text(encoding="utf-8"))
        return str(note["api"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _setting(name: str) -> str | None:
    """Return a variable of the environment, else of `.env` in the working directory, as the server's settings do."""
    return os.environ.get(name) or _dotenv().get(name) or None


def _dotenv() -> dict[str, str]:
    """Return the variables of `.env`, without lines that are not assignments; none if it cannot be read."""
    try:
        lines = Path(".env").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return dict(variable for line in lines if (variable := _assignment(line)) is not None)


def _assignment(line: str) -> tuple[str, str] | None:
    """Return name and value of `NAME=value`, `export NAME="a value"  # comment`."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # an open quotation
        return None
    name, equals, value = (words[-1] if words else "").partition("=")
    return (name, value) if equals and words[:-1] in ([], ["export"]) else None
