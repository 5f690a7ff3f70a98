"""Forms for job specs: fields with types and limits, generated from the schemas of the specs."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from nightshift.families.family import Family
from nightshift.families.optimizers import DEFAULT, OF_AN_OPTIMIZER, OPTIMIZERS
from nightshift.families.training import Training
from nightshift.names import FRAMEWORKS, KINDS, RUN
from shared.fleet.conformance import graded
from shared.fleet.plugins import family_plugin
from shared.specs import supported
from shared.specs.families import FAMILIES
from shared.specs.jobs import SPECS

#: Common fields, shown first. Other single values are collapsed; lists can be edited as JSON.
OFTEN = (
    "name", "training.epochs", "training.max_steps", "training.batch_size", "training.learning_rate",
    "training.optimizer",
    "training.seed", "freeze", "inference.task", "inference.batch_size", "inference.shards", "inference.count",
    "inference.seed", "seed", "secrets", "resources.device", "priority", "tags", "register_as",
)  # fmt: skip
#: Chosen above the form, or edited as JSON.
_ELSEWHERE = frozenset({"kind", "dataset", "model_ref", "program", "params", "after", "promote"})
#: Filled in from the program's declaration.
_OF_PROGRAM = frozenset({"framework"})
#: Fields of a model that are chosen before the others.
_CHOSEN = frozenset({"family", "framework", "preset"})
#: Fields that are edited as text: `team=vision, owner=me`, and `TOKEN, KEY`.
_TEXTS = {"tags": "tags", "secrets": "names"}
#: Fields whose default is that of the chosen optimizer: where it is chosen, which one is usual, and the defaults.
_OF_THE_OPTIMIZER = {
    f"training.{field}": {
        "path": "training.optimizer",
        "usual": DEFAULT,
        "values": {name: one.default(field) for name, one in OPTIMIZERS.items()},
    }
    for field in OF_AN_OPTIMIZER
}
_KEPT = ("enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "description", "default", "format")
_VALUES = frozenset({"string", "integer", "number", "boolean"})


def family_views(green: Container[tuple[str, str]] = ()) -> list[dict[str, Any]]:
    """Return the allowed families as in GET /v1/families, also those that cannot be used.

    `green`: what the conformance kit has found to be exact (`shared.fleet.conformance.green`).
    """
    return [_family(name, FAMILIES[name], green) if name in FAMILIES else _unusable(name) for name in FAMILIES.allowed]


def _unusable(name: str) -> dict[str, Any]:
    found = FAMILIES.installed.get(name)
    return {
        "name": name, "package": found.package if found else None, "description": "", "kinds": [], "frameworks": [],
        "dataset_kind": "", "default_preset": "", "presets": {}, "model_schema": {}, "training_schema": {},
        "promise": None,
        "error": found.error if found else "no installed package has a family of this name",
    }  # fmt: skip


def _family(name: str, family: Family, green: Container[tuple[str, str]]) -> dict[str, Any]:
    installed = FAMILIES.installed[name]
    is_green = installed.is_builtin or (family_plugin(name), installed.record_sha256) in green
    return {
        "name": name,
        "package": installed.package,
        "promise": graded(None, is_green),
        "description": family.description,
        "kinds": supported.kinds_of(name),
        "frameworks": family.frameworks,
        "dataset_kind": family.dataset_kind,
        "default_preset": family.default_preset,
        "presets": {
            preset: {"model": dict(model), "training": dict(family.training_for(preset))}
            for preset, model in family.presets.items()
        },
        "model_schema": family.model.model_json_schema(),
        "training_schema": Training.model_json_schema(),
        "error": None,
    }


def forms() -> dict[str, list[dict[str, Any]]]:
    """Return, by kind, [{path, type, often, enum, minimum, …, default, nullable, by}], common fields first."""
    return {kind: _sorted(list(_fields(kind))) for kind in KINDS}


def param_fields(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of a program's parameters, like those of `forms`."""
    return [{**field, "often": True} for field in _of_schema(schema, "params.")]


def model_fields(family: Family) -> list[dict[str, Any]]:
    """Return the fields of a family's model, like those of `forms`; family, framework and preset are chosen above."""
    return list(_of_schema(family.model.model_json_schema(), "model.", _CHOSEN))


def _sorted(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    place = {path: number for number, path in enumerate(OFTEN)}
    return sorted(fields, key=lambda field: place.get(field["path"], len(place)))


def _fields(kind: str) -> Iterator[dict[str, Any]]:
    schema = SPECS[kind].model_json_schema()
    yield from _of_schema(schema, skipped=_ELSEWHERE | _OF_PROGRAM if kind == RUN else _ELSEWHERE)
    if "model" in schema["properties"]:
        yield {
            "path": "model.framework",
            "type": "enum",
            "enum": [*FRAMEWORKS],
            "often": True,
            "default": FRAMEWORKS[0],
        }


def _of_schema(
    schema: Mapping[str, Any], prefix: str = "", skipped: frozenset[str] = frozenset()
) -> Iterator[dict[str, Any]]:
    """Yield the fields of a JSON schema and of the objects in it, one level deep."""
    for name, fact in schema.get("properties", {}).items():
        if name in skipped:
            continue
        named = schema.get("$defs", {}).get(str(fact.get("$ref", "")).rpartition("/")[2], {})
        if "properties" not in named:
            yield from _field(f"{prefix}{name}", {**named, **fact})
            continue
        for inner, its_fact in named["properties"].items():
            yield from _field(f"{prefix}{name}.{inner}", its_fact)


def _field(path: str, fact: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the field, if it is a single value, a number or a word (`count`), a list of values, or the tags."""
    possible = fact.get("anyOf", [fact])
    choices = [one for one in possible if one.get("type") != "null"]
    (value, *more) = choices or [{}]
    kind = _TEXTS.get(path) or ("enum" if "enum" in value else value.get("type"))
    if kind == "integer" and len(more) == 1 and "const" in more[0]:
        kind, more = "count", []
    items: dict[str, Any] = {}
    if kind == "array":
        kind, items = _of_list(value)
    if more or kind not in _VALUES | {"enum", "count", "list", "lines", *_TEXTS.values()}:
        return
    kept = {key: known[key] for known in (value, fact) for key in _KEPT if key in known}
    kept |= {"by": _OF_THE_OPTIMIZER[path]} if path in _OF_THE_OPTIMIZER else {}
    nullable = len(choices) < len(possible)
    yield {"path": path, "type": kind, "often": path in OFTEN, "nullable": nullable, **items, **kept}


def _of_list(value: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return how a list is edited (`lines` of text, or a `list` of short values) and what its entries are."""
    entries = [value["items"]] if "items" in value else value.get("prefixItems", [])
    types = {one.get("type") for one in entries}
    if len(types) != 1 or not types <= _VALUES:
        return None, {}
    (one,) = types
    return "lines" if one == "string" and "enum" not in entries[0] else "list", {
        "items": one,
        "entries": {key: entries[0][key] for key in _KEPT if key in entries[0]},
    }
