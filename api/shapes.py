"""Response models from the types of the client, so that each field of a response is declared once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Field, create_model

M = TypeVar("M", bound=BaseModel)


def shaped(shape: type) -> Callable[[type[M]], type[M]]:
    """Return a decorator that gives a response model the fields of a type of the client.

    A field that the model declares itself replaces the one of the same name; others follow.
    """

    def extend(model: type[M]) -> type[M]:
        inherited = {name for base in model.__bases__ for name in getattr(base, "model_fields", ())}
        hints = get_type_hints(shape, include_extras=True)
        fields: dict[str, Any] = {
            name: (hint, _field(hint)) for name, hint in hints.items() if name[0] != "_" and name not in inherited
        }
        own = {name: model.model_fields[name] for name in model.__annotations__}
        fields |= {name: (info.annotation, info) for name, info in own.items()}
        whole: Any = create_model(
            model.__name__, __base__=model.__bases__, __doc__=model.__doc__, __module__=model.__module__, **fields
        )
        return cast("type[M]", whole)

    return extend


def _field(hint: Any) -> Any:
    """Return the pydantic field of a hint: required, with the text in `Annotated` as its description."""
    extras = get_args(hint) if get_origin(hint) is Annotated else ()
    return Field(description=next((text for text in extras if isinstance(text, str)), None))
