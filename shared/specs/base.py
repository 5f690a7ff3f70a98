"""Fields of specs: names, references and other safe strings."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from nightshift.families.fields import Spec
from nightshift.names import DEVICE_LABEL


class Patch(Spec):
    """Changes of something; omitted fields stay. null changes only the `NULLABLE` fields, or all where that is None."""

    NULLABLE: ClassVar[frozenset[str] | None] = None

    def changes(self) -> dict[str, Any]:
        """Return the fields that were given."""
        given, nullable = self.model_dump(exclude_unset=True), self.NULLABLE
        return {key: given[key] for key in given if given[key] is not None or nullable is None or key in nullable}


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


def _device_label(value: str) -> str:
    if not re.fullmatch(DEVICE_LABEL, value):
        raise ValueError("use letters, digits, '.', '_' and '-', e.g. nvlink or room=3 (at most 30 each)")
    return value


#: A label of a device.
DeviceLabel = Annotated[str, AfterValidator(_device_label)]

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

Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86_400)]
