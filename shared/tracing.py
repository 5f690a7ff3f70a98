"""OpenTelemetry traces from submission to result, with the extra installed: `pip install 'nightshift[otel]'`.

    submit (API) → queued → attempt ── runner start, train, checkpoint …, evaluate, settle (worker)
                          → attempt, lost (from the rescuer, because its own process is dead)

The context is stored with the job (`pinned["trace"]`), so attempts on any host, days later, belong to the trace of the
request that submitted the job. Spans of an attempt are made from its events. Without the package, or without an
exporter set by the usual OTEL_* variables, tracing costs nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from shared.events import emit, subscribe
from shared.jobs.states import FINISHING

with suppress(ImportError):  # without the extra nothing below `use` is reached
    from opentelemetry import context, propagate, trace

#: Key in `job.pinned` of the context's carrier and the time of submission (nanoseconds).
KEY = "trace"
_EXPORTERS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
#: Timeout of an export (seconds) unless one of these variables is set. Too low: a slow collector misses spans. Too
#: high: a hung collector delays the exit of a process, which has 60 s to drain.
SEND_SECONDS = 3.0
#: Delay between exports (seconds) unless OTEL_BSP_SCHEDULE_DELAY is set. Too low: one request per span. Too high: spans
#: of this time are lost if the process is killed.
BATCH_SECONDS = 1.0

_provider: Any = None


def setup(process: str) -> None:
    """Start exporting this process's spans if OTEL_EXPORTER_OTLP_ENDPOINT is set and the extra is installed."""
    if not any(os.environ.get(name) for name in _EXPORTERS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        emit("tracing.unavailable", do="pip install 'nightshift[otel]'")
        return
    provider = TracerProvider(resource=Resource.create({"service.name": f"nightshift-{process}"}))
    timeout = None if any(os.environ.get(name) for name in _TIMEOUTS) else SEND_SECONDS
    delay = None if os.environ.get("OTEL_BSP_SCHEDULE_DELAY") else BATCH_SECONDS * 1000
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout), schedule_delay_millis=delay))
    use(provider)


def use(provider: Any) -> None:
    """Set the tracer provider; None disables tracing."""
    global _provider
    _provider = provider


def is_enabled() -> bool:
    """Return whether spans are recorded."""
    return _provider is not None


def _tracer() -> Any:
    return _provider.get_tracer("nightshift")


@contextmanager
def submitting(headers: Mapping[str, str], kind: str) -> Iterator[dict[str, Any]]:
    """Record the `submit` span under the caller's context; yield the entries of `job.pinned`."""
    if _provider is None:
        yield {}
        return
    with _tracer().start_as_current_span(
        "submit", context=propagate.extract(headers), kind=trace.SpanKind.SERVER, attributes={"nightshift.kind": kind}
    ):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        yield {KEY: {**carrier, "at": time.time_ns()}}


@contextmanager
def attempt(job_id: str, fence: int, pinned: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[None]:
    """Record the `attempt` span and its parts from the events of the block."""
    if _provider is None:
        yield
        return
    recorder = _Attempt(job_id, fence, pinned.get(KEY) or {}, facts)
    unsubscribe = subscribe(recorder.on_event)
    try:
        yield
    finally:
        unsubscribe()
        recorder.end()


def lost(
    job_id: str, fence: int, pinned: Mapping[str, Any], start: float, end: float, facts: Mapping[str, Any]
) -> None:
    """Record the `attempt` span of a lost attempt; times are on the database's clock (seconds)."""
    if _provider is None:
        return
    span = _tracer().start_span(
        "attempt",
        context=_above(pinned.get(KEY) or {}),
        start_time=int(start * 1e9),
        attributes={"nightshift.job_id": job_id, "nightshift.attempt": fence, "nightshift.outcome": "lost", **facts},
    )
    span.set_status(trace.Status(trace.StatusCode.ERROR, "its worker did not renew the lease"))
    span.end(int(end * 1e9))


def _above(carrier: Mapping[str, Any]) -> Any:
    """Return the context stored with a job."""
    return propagate.extract({name: str(value) for name, value in carrier.items()}, context=context.Context())


class _Attempt:
    """Converts events of an attempt to spans. Each part begins where the previous one ended."""

    #: Event -> the part that it begins.
    _BEGINS = {"runner.started": "train", "attempt.settling": "settle", "attempt.settled": ""}
    #: Phases of a runner that occur once and may take long; phases of every epoch would be thousands of spans.
    _PHASES = frozenset({"evaluate", "write", FINISHING})

    def __init__(self, job_id: str, fence: int, carrier: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        self._job_id, self._present, self._mark = job_id, "runner start", time.time_ns()
        above = _above(carrier)
        if fence == 1 and "at" in carrier:
            _tracer().start_span("queued", context=above, start_time=int(carrier["at"])).end(self._mark)
        attributes = {"nightshift.job_id": job_id, "nightshift.attempt": fence, **facts}
        self._span = _tracer().start_span("attempt", context=above, start_time=self._mark, attributes=attributes)
        self._inside = trace.set_span_in_context(self._span, context.Context())

    def on_event(self, event: str, fields: Mapping[str, Any]) -> None:
        if fields.get("job_id") != self._job_id:
            return
        now = time.time_ns()
        if event == "checkpoint.committed":
            self._part("checkpoint", now, now, {"nightshift.step": fields.get("step", 0)})
        elif event in self._BEGINS:
            self._begin(self._BEGINS[event], now)
        elif event == "runner.entered" and fields["phase"] in self._PHASES - {self._present}:
            self._begin(fields["phase"], now)
        elif event == "attempt.lease_lost":
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, "the lease was lost"))
        if event == "attempt.settled":
            self._span.set_attribute("nightshift.state", str(fields.get("state")))

    def end(self) -> None:
        self._span.end()

    def _begin(self, name: str, now: int) -> None:
        self._part(self._present, self._mark, now, {})
        self._present, self._mark = name, now

    def _part(self, name: str, start: int, end: int, attributes: Mapping[str, Any]) -> None:
        _tracer().start_span(name, context=self._inside, start_time=start, attributes=dict(attributes)).end(end)
