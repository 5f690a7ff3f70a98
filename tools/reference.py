"""Generate reference pages from the code: HTTP routes, commands, job specs, metrics, events.

`mkdocs build` calls this (docs/hooks.py), so the pages are always current.
"""

from __future__ import annotations

import ast
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_PACKAGES = ("api", "shared", "worker")


def pages() -> dict[str, str]:
    """Return Markdown by file name below docs/reference."""
    makers: dict[str, Callable[[], str]] = {
        "http.md": http, "commands.md": commands, "specs.md": specs, "metrics.md": metrics, "events.md": events,
    }  # fmt: skip
    return {name: make() for name, make in makers.items()}


def _cell(value: Any) -> str:
    return " ".join(str(value if value is not None else "").split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(_cell(value) for value in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


# -- HTTP -----------------------------------------------------------------------------------------


def http() -> str:
    """Describe every route, from the OpenAPI document."""
    from api.app import create_app

    document = create_app().openapi()
    text = (
        "# HTTP API\n\nA running API shows this at `/docs`, with examples to try. Errors are "
        "`application/problem+json`.\n"
    )
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            text += f"\n## {method.upper()} {path}\n\n{route.get('summary', '')}. {route.get('description', '')}\n"
            if parameters := route.get("parameters"):
                rows = [(f"`{p['name']}`", p["in"], _type(p["schema"]), p.get("description")) for p in parameters]
                text += "\n" + _table(("parameter", "in", "type", "meaning"), rows)
            if body := route.get("requestBody"):
                text += f"\nBody: {', '.join(_bodies(body))}.\n"
            answers = [(status, answer.get("description")) for status, answer in route["responses"].items()]
            text += "\n" + _table(("status", "when"), answers)
    return text


def _bodies(body: dict[str, Any]) -> Iterator[str]:
    for media, content in body["content"].items():
        yield f"`{media}`, {_type(content['schema'])}"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any")) + _limits(schema)


def _limits(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {schema[name]:,}" for name, sign in signs.items() if name in schema]
    return f" ({', '.join(found)})" if found else ""


# -- commands -------------------------------------------------------------------------------------


def commands() -> str:
    """Describe every command with its arguments and options."""
    from nightshift.cli.app import whole_command

    text = "# Command line\n\n`nightshift --install-completion` lets the shell complete commands, ids and names.\n"
    return text + "".join(_command(["nightshift"], whole_command()))


def _command(path: list[str], command: Any) -> Iterator[str]:
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    yield f"\n## {' '.join(path)}\n\n{command.help or ''}\n"
    rows = [_parameter(parameter) for parameter in shown if parameter.name != "help"]
    if rows:
        yield "\n" + _table(("", "meaning"), rows)
    for name, child in sorted(getattr(command, "commands", {}).items()):
        if not child.hidden:
            yield from _command([*path, name], child)


def _parameter(parameter: Any) -> tuple[str, str]:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or (parameter.name or '').upper()}`", getattr(parameter, "help", "") or ""
    return " ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts)), parameter.help or ""


# -- specs ----------------------------------------------------------------------------------------


def specs() -> str:
    """Describe every field of a JSON body, and the presets of every family."""
    from shared.specs.examples import EXAMPLES
    from shared.specs.families import FAMILIES

    text = "# Job specs\n\nUnknown fields are refused, with the nearest known name.\n"
    for name, schema in _body_schemas().items():
        rows = [
            (f"`{field}`", _type(fact), _default(fact), fact.get("description"))
            for field, fact in schema.get("properties", {}).items()
        ]
        if rows:
            text += f"\n## {name}\n\n{_table(('field', 'type', 'default', 'meaning'), rows)}"
    text += "\n## Presets\n\n"
    presets = [
        (
            family,
            f"`{preset}`",
            f"`{json.dumps(model, default=str)}`",
            f"`{json.dumps(one.training_defaults.get(preset, {}), default=str)}`",
        )
        for family, one in FAMILIES.items()
        for preset, model in one.presets.items()
    ]
    text += _table(("family", "preset", "model", "training"), presets)
    for title, example in EXAMPLES.items():
        text += f"\n## Example: {title}\n\n```json\n{json.dumps(example['value'], indent=2)}\n```\n"
    return text


def _body_schemas() -> dict[str, Any]:
    """Return the schemas that request bodies refer to, directly or indirectly."""
    from api.app import create_app

    document = create_app().openapi()
    schemas: dict[str, Any] = document["components"]["schemas"]
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    waiting, found = _references([operation.get("requestBody") for operation in operations]), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting |= _references(schemas[name])
    return {name: schemas[name] for name in sorted(found)}


def _references(node: Any) -> set[str]:
    return set(re.findall(r"#/components/schemas/(\w+)", json.dumps(node)))


def _default(schema: dict[str, Any]) -> str:
    """Return the default, empty if the field is required or a preset fills it in."""
    if "default" in schema:
        return f"`{json.dumps(schema['default'])}`"
    return "`null`" if {"type": "null"} in schema.get("anyOf", []) else ""


# -- metrics and events ---------------------------------------------------------------------------


def metrics() -> str:
    """Describe every series of `GET /metrics`, from a scrape of an empty database."""
    from api.metrics.http import HttpMetrics
    from shared.db.engine import make_engine
    from shared.db.migrate import upgrade
    from shared.specs.families import FAMILIES

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/empty.db"
        upgrade(url)
        engine = make_engine(url)
        telemetry = HttpMetrics(engine, 30.0, {})
        telemetry.observe("GET", "/v1/jobs", 200, 0.001)
        rows = [
            (f"`{family.name}`", family.type, family.documentation, ", ".join(_labels(family)))
            for family in telemetry.registry.collect()
        ]
        engine.dispose()
    text = (
        "# Metrics\n\n## Prometheus\n\n`GET /metrics` requires an API key. Metrics of jobs, attempts, workers and "
        "devices come from SQL and are the same in every API process: take one (`max by`), not the sum. "
        "`nightshift_http_*` belong to one process each and add up. Counters end in `_total`, histograms in "
        "`_bucket`, `_sum` and `_count`. A dashboard and alerts: [Watch an installation](../howto/monitoring.md).\n\n"
    )
    text += _table(("series", "kind", "meaning", "labels"), rows)
    text += (
        "\n## Of a model\n\nMetrics that early stopping may watch, and that may decide a promotion "
        "([the metrics of a run](../kinds.md#train)):\n\n"
    )
    judged = [(name, _names(one.watchable), _names(one.judged_by)) for name, one in FAMILIES.items()]
    return text + _table(("family", "watched in training", "on the test part"), judged)


def _names(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _labels(family: Any) -> list[str]:
    found = {label for sample in family.samples for label in sample.labels} - {"le"}
    return sorted(found or set(getattr(family, "_labelnames", ())))


def events() -> str:
    """Describe the events of a job's stream, and every named log event that the code emits."""
    text = (
        "# Events\n\n## Of a job\n\n`GET /v1/jobs/{id}/events` streams them; each has a number `id` that increases "
        "within the job, and a time `at`.\n\n"
    )
    types = [
        ("`state`", "the job was queued, claimed, asked to stop, or ended", "`state attempt worker stop_requested`"),
        ("`progress`", "the latest only", "`step total_steps epoch percent eta_seconds samples_per_second`"),
        ("`metric`", "one point of a curve", "`name step epoch value`"),
        ("`checkpoint`", "a checkpoint was written", "`step epoch`"),
        ("`artifact`", "a file was written", "`path`"),
        ("`promotion`", "the outcome of `promote`", "`name alias version promoted reason`"),
        ("`log`", "a line that the job logged or printed", "`attempt level message`"),
    ]
    text += _table(("type", "when", "data"), types)
    text += (
        "\n## Of the log\n\nEvery process logs named events as JSON. Lines of an attempt have `job_id` and "
        "`attempt`.\n\n"
    )
    rows = [(f"`{name}`", ", ".join(f"`{field}`" for field in fields), where) for name, fields, where in _emitted()]
    return text + _table(("event", "fields", "where"), rows)


def _emitted() -> list[tuple[str, list[str], str]]:
    found: dict[str, tuple[set[str], str]] = {}
    for package in _PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and (named := _event_of(node)):
                    name, fields = named
                    known = found.setdefault(name, (set(), path.relative_to(ROOT).as_posix()))
                    known[0].update(fields)
    return [(name, sorted(fields), where) for name, (fields, where) in sorted(found.items())]


def _event_of(call: ast.Call) -> tuple[str, list[str]] | None:
    """Return name and fields of a call like `emit("job.failed", job_id=…)`, also inside `partial(emit, …)`."""
    arguments = list(call.args)
    name = call.func.id if isinstance(call.func, ast.Name) else None
    if name == "partial" and arguments and isinstance(arguments[0], ast.Name) and arguments[0].id == "emit":
        arguments = arguments[1:]
    elif name != "emit":
        return None
    if not arguments or not isinstance(arguments[0], ast.Constant):
        return None
    return str(arguments[0].value), [keyword.arg for keyword in call.keywords if keyword.arg]
