"""Request bodies from options, `--set path=value` and files. The API checks their content."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nightshift.errors import InvalidRequest, MalformedRequest


def read(source: str) -> dict[str, Any]:
    """Read a job from a JSON file, or from stdin (`-`). Raises `InvalidRequest` and `MalformedRequest`."""
    body = _parsed(_text(source), _name(source))
    if not isinstance(body, dict):
        raise MalformedRequest(
            f'{_name(source)} is not a JSON object; a job is one, such as {{"kind": "train", …}}. '
            "`nightshift submit batch` takes a list."
        )
    return body


def read_batch(source: str) -> list[dict[str, Any]]:
    """Read jobs from a file or stdin (`-`): a JSON list, or JSON Lines with a job in each. Raises as `read`."""
    text, where = _text(source), _name(source)
    if text.lstrip().startswith("["):
        found = _parsed(text, where)
    else:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        found = [_parsed(line, f"{where}, line {number},") for number, line in lines]
    if not all(isinstance(one, dict) for one in found):
        raise MalformedRequest(f"{where}: each job must be a JSON object.")
    return list(found)


def _text(source: str) -> str:
    try:
        return sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{source} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _name(source: str) -> str:
    return "stdin" if source == "-" else source


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"{where} is not JSON: {error}") from error


def put(body: dict[str, Any], path: str, value: Any) -> None:
    """Set a value at a dotted path, as in `put(body, "training.epochs", 5)`; missing objects are created."""
    *folders, last = path.split(".")
    here: Any = body
    for index, name in enumerate(folders):
        here = here.setdefault(name, {})
        if not isinstance(here, dict):
            raise InvalidRequest(
                f"--set {path}: {'.'.join(folders[: index + 1])} is {json.dumps(here)}, which has no fields."
            )
    here[last] = value


def put_options(body: dict[str, Any], options: dict[str, Any]) -> None:
    """Set the options that were given (not None, not empty), each at its dotted path."""
    for path, value in options.items():
        if value is not None and value not in ([], {}):
            put(body, path, value)


def assign(body: dict[str, Any], assignments: Iterable[str]) -> None:
    """Apply `path=value` texts in order."""
    for path, value in assigned(assignments):
        put(body, path, value)


def assigned(assignments: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield path and value of each `path=value` text; the value is parsed as JSON, else it is a string."""
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals or not all(path.split(".")):
            raise InvalidRequest(f"--set {text!r}: write it as path=value, such as training.batch_size=64")
        yield path, _value(value)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def model(family: str, preset: str | None, framework: str | None) -> dict[str, Any]:
    """Return the field `model` of a body."""
    body: dict[str, Any] = {"model": {"family": family}}
    put_options(body, {"model.preset": preset, "model.framework": framework})
    return body


def tags(pairs: Iterable[str]) -> dict[str, str]:
    """Return the tags of `name=value` texts. Raises `InvalidRequest`."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"--tag {pair!r}: write it as name=value")
        found[name] = value
    return found
