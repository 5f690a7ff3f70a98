"""The model families of this process: those of Nightshift, and installed ones that the operator allows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler, SerializeAsAny, ValidatorFunctionWrapHandler, WrapValidator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from nightshift.entry_points import Installed
from nightshift.errors import ConfigurationError
from nightshift.families.family import Family
from nightshift.families.fields import ModelSpec, field_error
from nightshift.plugins import installed_families, offered_families
from shared.settings import get_settings

#: The variable of the setting, which a runner has although it reads no other settings.
SETTING = "NIGHTSHIFT_FAMILIES"


class _Families(Mapping[str, Family]):
    """The families that can be used, by name. Packages are looked up once: an upgraded one is seen after a restart."""

    @cached_property
    def allowed(self) -> tuple[str, ...]:
        """The names that the operator allows, in the order of the setting."""
        return offered_families(os.environ.get(SETTING) or get_settings().families)

    @cached_property
    def installed(self) -> dict[str, Installed[Family]]:
        """The families of Nightshift and the allowed ones, also broken ones. Raises ConfigurationError."""
        found = installed_families(self.allowed)
        if not any(one.is_builtin for one in found.values()):
            raise ConfigurationError("no entry point leads to Nightshift's own families: install the package again")
        return found

    @property
    def offered(self) -> list[str]:
        """The families that new jobs may name."""
        return [name for name in self.allowed if name in self]

    def is_builtin(self, name: str) -> bool:
        """Return whether a family is one of Nightshift's, which every worker has."""
        return name in self.installed and self.installed[name].is_builtin

    def forget(self) -> None:
        """Look the packages up again at the next use."""
        self.__dict__.pop("allowed", None)
        self.__dict__.pop("installed", None)

    @property
    def default(self) -> str:
        """The family of a spec that names none."""
        return next(name for name, family in self.items() if family.is_default)

    def __getitem__(self, name: str) -> Family:
        one = self.installed.get(name)
        if one is None or one.declared is None:
            raise KeyError(name)
        return one.declared

    def __iter__(self) -> Iterator[str]:
        return (name for name, one in self.installed.items() if one.declared is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


FAMILIES = _Families()


def _by_family(data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validate as the named family, so that error paths read `model.units`, not `model.gru_lm.units`."""
    if not isinstance(data, dict):
        return handler(data)
    name = data.get("family", FAMILIES.default)
    if not isinstance(name, str) or name not in FAMILIES:
        raise field_error("Model", ("family",), _unknown(name), name)
    return FAMILIES[name].model.model_validate(data)


def _unknown(name: object) -> str:
    """Return why a family cannot be named."""
    broken = FAMILIES.installed.get(name) if isinstance(name, str) else None
    if broken is not None:
        return f"the family {name} cannot be used: {broken.error}"
    return f"unknown family; families: {', '.join(FAMILIES.offered)}"


class _SchemaOfFamilies:
    """The JSON schema of a model: one of the offered families', told apart by `family`."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        choices = {name: FAMILIES[name].model.__pydantic_core_schema__ for name in FAMILIES.offered}
        return handler(core_schema.tagged_union_schema(choices, "family"))


#: The `model` field: the spec of one family, selected by `family`.
Model = Annotated[SerializeAsAny[ModelSpec], WrapValidator(_by_family), _SchemaOfFamilies]
