"""Response models that take their fields from a type of the client."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel

from api.shapes import shaped


class Thing:
    """A type of the client."""

    _SHOWN: ClassVar = ("name",)

    name: str
    state: str
    size: Annotated[int | None, "Size in bytes."]


@shaped(Thing)
class ThingView(BaseModel):
    """A thing."""

    state: Literal["old", "new"]
    color: str | None = None


@shaped(Thing)
class Longer(ThingView):
    more: int


def test_own_fields_replace_those_of_the_type_or_follow_them() -> None:
    assert ThingView.model_json_schema() == {
        "title": "ThingView",
        "description": "A thing.",
        "type": "object",
        "properties": {
            "name": {"title": "Name", "type": "string"},
            "state": {"enum": ["old", "new"], "title": "State", "type": "string"},
            "size": {
                "anyOf": [{"type": "integer"}, {"type": "null"}],
                "description": "Size in bytes.",
                "title": "Size",
            },
            "color": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "Color"},
        },
        "required": ["name", "state", "size"],
    }


def test_inherited_fields_stay_as_the_base_declares_them() -> None:
    properties = Longer.model_json_schema()["properties"]
    assert list(properties) == ["name", "state", "size", "color", "more"]
    assert properties["state"]["enum"] == ["old", "new"]
