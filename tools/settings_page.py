"""`python -m tools.settings_page > docs/settings.md`: the reference of all settings, made from their
definitions."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from shared.settings import Settings

_HEAD = """\
# Settings

Environment variables, or lines of a `.env` file in the working directory. `nightshift check --settings` shows
their present values.
(This page is made by `python -m tools.settings_page`.)

| variable | default | meaning |
|---|---|---|
"""
#: Defaults that depend on the machine.
_COMPUTED = {"host_name": "this host's name"}


def page() -> str:
    rows = (
        f"| `NIGHTSHIFT_{name.upper()}` | {_COMPUTED.get(name) or _default(field.default)} | "
        f"{_cell(field.description)} |\n"
        for name, field in Settings.model_fields.items()
    )
    return _HEAD + "".join(rows)


def _default(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value is None or value == "" or value is PydanticUndefined else f"`{value}`"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
