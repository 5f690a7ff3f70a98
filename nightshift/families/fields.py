"""Base classes and fields of specs: strict, no unknown fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from nightshift.errors import FieldError
from nightshift.families.layers import Layer
from nightshift.names import Framework


class Spec(BaseModel):
    """Strict: no coercion (`"1"` is not an int), no NaN or infinity, no unknown field."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _optional(schema: dict[str, Any]) -> None:
    schema.pop("required", None)


class ModelSpec(Spec):
    """The model of one family. Its preset fills in what is left out, so no field is required.

    A field that depends on the data, as the target of a table does, is null in presets, and `unfit` asks for it.

    A family's class has the fields `family` (a literal, its name), `framework` and `preset`, each with a default.
    """

    model_config = ConfigDict(json_schema_extra=_optional)
    family: str
    framework: Framework
    preset: str
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

    def unfit(self, dataset: str, summary: Mapping[str, Any]) -> FieldError | None:
        """Return which of these settings does not fit a data set, or None; `family` if no settings fit it.

        `summary` holds what is known of the data set without opening it: `kind`, `classes`, `splits` with counts.
        """
        return None

    def lacks(self, metric: str, summary: Mapping[str, Any]) -> str | None:
        """Return why a model with these settings has no such metric on such a data set, or None.

        `metric` is one of the family's, to watch or to be judged by; `summary` as for `unfit`.
        """
        return None

    def most_rows(self, summary: Mapping[str, Any], validation_split: float) -> int | None:
        """Return at most how many rows of a table with this summary are trained on; None: not known."""
        return None

    def expected_facts(self, summary: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return what `layers` needs of `LearnerSetup.facts`, as a data set with this summary would give it.

        None: no data set was chosen; of a typical one.
        """
        return {}

    def layers(self, facts: Mapping[str, Any]) -> Sequence[Layer] | None:
        """Return the layers in the order of the network; None: there is no summary of this family.

        `facts` are a learner's. The parameters of all layers are the numbers in the learner's weights.
        """
        return None


def field_error(model: str, loc: tuple[str | int, ...], message: str, value: object) -> ValidationError:
    """Return a validation error at `loc`, for use inside a validator: pydantic prepends the path of the model."""
    detail = InitErrorDetails(type=PydanticCustomError("value_error", message.replace("{", "{{")), loc=loc, input=value)
    return ValidationError.from_exception_data(model, [detail])


#: Height and width of the images that a model reads or makes (pixels).
_Side = Annotated[int, Field(ge=4, le=1024)]
ImageSize = Annotated[
    tuple[_Side, _Side], Field(description="Height, width (pixels); images are resized to it.", strict=False)
]

#: Sizes of layers: positive, and limited so that a single layer fits into memory.
Width = Annotated[int, Field(ge=1, le=65_536)]
Probability = Annotated[float, Field(ge=0, lt=1)]
#: `format` in the JSON schema of a setting that names a column of the data set: forms offer its columns.
COLUMN = "column"
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
