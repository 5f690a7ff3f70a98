"""Bodies of webhook requests: an event as JSON, or one line of text for a chat."""

from __future__ import annotations

from typing import Any

from nightshift.metrics import is_of_steps
from shared.clock import iso
from shared.db.engine import dump_json
from shared.webhooks.models import TEST, BodyFormat, EventType

#: Largest body (bytes). A result that would exceed it is left out and `truncated` is set.
MAX_BYTES = 64_000
#: Most metrics of a result in a chat line.
_METRICS_SHOWN = 4
_OF_TRAINING = ("train_", "val_")


def body(shape: str, event_id: str, event_type: str, at: float, data: dict[str, Any]) -> str:
    """Return the body, which is sent and signed unchanged."""
    if shape == BodyFormat.SLACK:
        return dump_json({"text": line(event_type, data)})
    message = {"id": event_id, "type": event_type, "timestamp": iso(at), "data": data}
    text = dump_json(message)
    if len(text.encode()) <= MAX_BYTES:
        return text
    small = {name: data[name] for name in ("job", "model") if name in data}
    return dump_json({**message, "data": {**small, "truncated": True}})


def line(event_type: str, data: dict[str, Any]) -> str:
    """Describe an event in one line. `&<>` are escaped: a job named `<!channel>` must not notify a whole channel."""
    text = _line(event_type, data)[:1000]
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _line(event_type: str, data: dict[str, Any]) -> str:
    match event_type:
        case EventType.MODEL_ALIAS_MOVED | EventType.MODEL_ROLLED_BACK:
            verb = "rolled back" if event_type == EventType.MODEL_ROLLED_BACK else "moved"
            before = f" from {data['from_version']}" if data.get("from_version") else ""
            moved = f"{data['model']}@{data['alias']} {verb}{before} to {data['to_version']} by {data['who']}"
            return f"{moved}: {data['why']}" if data.get("why") else moved
        case EventType.MODEL_VERSION_DELETED:
            return f"{data['model']}@{data['from_version']} deleted by {data['who']}"
        case EventType.MODEL_PROMOTED | EventType.MODEL_PROMOTION_REFUSED:
            verdict = "promoted" if event_type == EventType.MODEL_PROMOTED else "not promoted"
            return _joined(f"{_job(data)}: {verdict}", data.get("reason"))
        case _ if event_type == TEST:
            return f"Test of webhook {data['webhook']['name']}."
        case _:
            return _joined(f"{_job(data)} {event_type.removeprefix('job.')}", _outcome(data))


def _job(data: dict[str, Any]) -> str:
    job = data["job"]
    return f"{job['name'] or job['kind']} ({job['kind']} {job['id']})"


def _outcome(data: dict[str, Any]) -> str | None:
    if data.get("error"):
        return str(data["error"].get("message") or data["error"].get("type"))
    result = data.get("result") or {}
    measured = {
        name: value
        for name, value in (result.get("metrics") or {}).items()
        if _is_number(value) and not is_of_steps(name)
    }
    # Test metrics describe the model; training metrics are shown only if there are none.
    tested = {name: value for name, value in measured.items() if not name.startswith(_OF_TRAINING)}
    shown = [f"{name} {value:.4g}" for name, value in (tested or measured).items()]
    registered = (result.get("model") or {}).get("registered")
    return ", ".join([*shown[:_METRICS_SHOWN], *([f"registered as {registered}"] if registered else [])]) or None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _joined(head: str, tail: Any) -> str:
    return f"{head}: {tail}" if tail else head
