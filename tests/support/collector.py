"""An OpenTelemetry collector on loopback that receives OTLP over HTTP and records the spans."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.receiver import Received, Receiver, receiving


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]


class Collector:
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.endpoint = f"http://127.0.0.1:{receiver.port}"

    def spans(self) -> list[Span]:
        """Return all received spans by start."""
        found = [span for request in list(self.receiver.received) for span in _spans(request)]
        return sorted(found, key=lambda span: (span.start, span.end))

    def of(self, job_id: str, name: str = "attempt") -> list[Span]:
        return [one for one in self.spans() if one.name == name and one.attributes.get("nightshift.job_id") == job_id]

    def below(self, parent: Span) -> list[str]:
        return [span.name for span in self.spans() if span.parent == parent.id]


def _spans(request: Received) -> Iterator[Span]:
    assert request.path == "/v1/traces"
    assert request.headers["content-type"] == "application/x-protobuf"
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _values(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service,
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    _values(span.attributes),
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    with receiving() as receiver:
        yield Collector(receiver)
