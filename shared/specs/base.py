"""Base of all specs: strict fields, no unknown fields, safe strings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


class Spec(BaseModel):
    """Strict: no coercion (`"1"` is not an int), no NaN or infinity, no unknown field."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Patch(Spec):
    """Changes of something; omitted fields stay. null changes only the `NULLABLE` fields, or all where that is None."""

    NULLABLE: ClassVar[frozenset[str] | None] = None

    def changes(self) -> dict[str, Any]:
        """Return the fields that were given."""
        given, nullable = self.model_dump(exclude_unset=True), self.NULLABLE
        return {key: given[key] for key in given if given[key] is not None or nullable is None or key in nullable}


def _optional(schema: dict[str, Any]) -> None:
    schema.pop("required", None)


class ModelSpec(Spec):
    """The model of one family. Its preset fills in what is left out, so no field is required."""

    model_config = ConfigDict(json_schema_extra=_optional)
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        name = data.get("preset", cls.model_fields["preset"].default)
        if not isinstance(name, str) or name not in cls.PRESETS:
            family, known = cls.model_fields["family"].default, ", ".join(cls.PRESETS)
            raise field_error(cls.__name__, ("preset",), f"unknown preset; presets of {family}: {known}", name)
        return {**cls.PRESETS[name], **data, "preset": name}


def field_error(model: str, loc: tuple[str | int, ...], message: str, value: object) -> ValidationError:
    """Return a validation error at `loc`, for use inside a validator: pydantic prepends the path of the model."""
    detail = InitErrorDetails(type=PydanticCustomError("value_error", message.replace("{", "{{")), loc=loc, input=value)
    return ValidationError.from_exception_data(model, [detail])


def printable(value: str) -> str:
    """Return `value`; raise ValueError if it has control, format or unassigned characters."""
    for char in value:
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
            raise ValueError(f"must not contain control, format or unassigned characters (found U+{ord(char):04X})")
    return value


def _trimmed(value: str) -> str:
    if value != value.strip():
        raise ValueError("must not begin or end with white space")
    return value


#: Free text: one line, printable, at most 200 characters.
Label = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(printable), AfterValidator(_trimmed)]

#: What a name looks like, also inside of other patterns.
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"


def _name(value: str) -> str:
    if not re.fullmatch(NAME, value) or ".." in value:
        raise ValueError("use letters, digits, '.', '_' and '-' (at most 100, beginning with a letter or digit)")
    return value


#: The name of a data set, model, schedule: safe in a URL and on a terminal. Never used as a file name.
Name = Annotated[str, AfterValidator(_name)]

#: A name, or one with the number of a version.
DATASET_REF = rf"{NAME}(?:@[1-9][0-9]{{0,8}})?"


def _dataset_ref(value: str) -> str:
    if not re.fullmatch(DATASET_REF, value) or ".." in value:
        raise ValueError("must be 'name' or 'name@3' (letters, digits, '.', '_' and '-')")
    return value


#: A data set: its newest version, or the one with that number.
DatasetRef = Annotated[str, AfterValidator(_dataset_ref)]

_MODEL_REF = re.compile(rf"(job:[0-9a-f]{{4,32}})|({NAME}(@{NAME})?)")


def _model_ref(value: str) -> str:
    if not _MODEL_REF.fullmatch(value):
        raise ValueError("must be 'name', 'name@3', 'name@alias' or 'job:<id>'")
    return value


ModelRef = Annotated[str, AfterValidator(_model_ref)]

#: The name of a secret: that of an environment variable.
SecretName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,99}$")]

#: Height and width of the images that a model reads or makes (pixels).
_Side = Annotated[int, Field(ge=4, le=1024)]
ImageSize = Annotated[
    tuple[_Side, _Side], Field(description="Height, width (pixels); images are resized to it.", strict=False)
]

#: Sizes of layers: positive, and limited so that a single layer fits into memory.
Width = Annotated[int, Field(ge=1, le=65_536)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86_400)]
