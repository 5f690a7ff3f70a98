"""The state of a job that is followed, updated by its events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nightshift.cli.render.output import duration, metric_facts, number
from nightshift.client.client import Job
from nightshift.client.types import Event
from nightshift.metrics import CURVES, is_of_steps
from nightshift.states import FINAL_STATES, JobState

#: Fields of progress that are kept when an attempt ends; speed and remaining time are not.
LASTING = ("step", "total_steps", "epoch")
#: Largest number of values kept per curve; then every second one is dropped.
CURVE_POINTS = 2_000
#: Number of log lines kept.
LOG_LINES = 50


@dataclass
class JobProgress:
    """The state of one job; `apply` updates it."""

    id: str
    title: str = ""
    state: str = "queued"
    epochs: int | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    attempt: int = 0
    stop_requested: str | None = None
    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    #: Why no events arrive; None while they do.
    trouble: str | None = None
    curves: dict[str, list[float]] = field(default_factory=dict)
    logs: deque[Event] = field(default_factory=lambda: deque(maxlen=LOG_LINES))

    @classmethod
    def of(cls, job: Job) -> JobProgress:
        """Return the state of a job before its first event."""
        spec = job.data.get("spec") or {}
        words = [job.data.get("kind"), job.data.get("family") or spec.get("model_ref"), job.data.get("dataset")]
        title = job.data.get("name") or " ".join(str(word) for word in words if word)
        return cls(job.id, title, epochs=(spec.get("training") or {}).get("epochs"))

    def apply(self, event: Event) -> None:
        """Update the state by an event."""
        self.trouble = None
        if event.type == "state":
            self.state = event.data.get("state", self.state)
            if self.state == JobState.SUCCEEDED:
                self.metrics = _metrics(event.data.get("result"))
            if self.state != JobState.RUNNING or event.data.get("attempt") != self.attempt:
                self.progress = {name: self.progress[name] for name in LASTING if name in self.progress}
            self.attempt = event.data.get("attempt") or self.attempt
            self.stop_requested = event.data.get("stop_requested")
        elif event.type == "progress":
            self.progress = event.data
            if event.data.get("loss") is not None:
                self.metrics["loss"] = event.data["loss"]
        elif event.type == "metric":
            self._measure(event.data["name"], event.data["value"])
        elif event.type == "log":
            self.logs.append(event)

    def _measure(self, name: str, value: float) -> None:
        self.metrics[name] = value
        curve = self.curves.setdefault(name, [])
        curve.append(value)
        if len(curve) > CURVE_POINTS:
            del curve[1::2]

    def settle(self, job: Job) -> None:
        """Take state, error and result from the final job, which overrides its events."""
        self.state, self.error, self.result, self.trouble = str(job.state), job.error, job.result, None
        self.progress = {**self.progress, **(job.progress or {})}
        if self.state == JobState.SUCCEEDED:
            self.metrics = _metrics(job.result)

    @property
    def fraction(self) -> float | None:
        """The share of the job that is done, 0 to 1; None if unknown."""
        if self.state == JobState.SUCCEEDED:
            return 1.0
        step, total = self.progress.get("step"), self.progress.get("total_steps")
        return min(1.0, step / total) if step is not None and total else None

    @property
    def standing(self) -> tuple[str, int, str | None]:
        """State, attempt and requested stop; a change of these is printed at once."""
        return self.state, self.attempt, self.stop_requested

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL_STATES

    def facts(self) -> list[str]:
        """Return the known facts: `step 120/450`, `epoch 2/5`, `loss 0.2134` and so on."""
        facts, step, total = [], self.progress.get("step"), self.progress.get("total_steps")
        if step is not None:
            facts.append(f"step {step:,}/{total:,}" if total else f"step {step:,}")
        epoch = self.progress.get("epoch")
        if epoch or (epoch is not None and self.epochs):  # inference, and some programs, have no epochs
            facts.append(f"epoch {epoch}" + (f"/{self.epochs}" if self.epochs else ""))
        facts += [f"{name} {number(self.metrics[name])}" for name in CURVES if name in self.metrics]
        if self.state == JobState.RUNNING:
            facts += [f"attempt {self.attempt}"] if self.attempt > 1 else []
            facts += [f"{self.stop_requested} requested"] if self.stop_requested else []
            facts += [phase] if (phase := self.progress.get("phase")) and phase != "train" else []
            if rate := self.progress.get("samples_per_second"):
                facts.append(f"{number(round(rate))}/s")
            if (eta := self.progress.get("eta_seconds")) is not None:
                facts.append(f"ETA {duration(eta)}")
        return facts

    def shown_curves(self) -> Iterator[tuple[str, list[float]]]:
        """Yield the first training curve and the first validation curve, with their names."""
        for start in ("", "val_"):
            names = [
                name for name in CURVES if name.startswith("val_") == bool(start) and len(self.curves.get(name, [])) > 1
            ]
            if names:
                yield names[0], self.curves[names[0]]

    def closing(self) -> list[str]:
        """Return how the job ended: the error, or the metrics of the result."""
        if self.error:
            return [f"{self.error.get('type')}: {self.error.get('message')}"]
        metrics = (self.result or {}).get("metrics") or {}
        news = {name: value for name, value in metrics.items() if name not in CURVES and not is_of_steps(name)}
        promotion = (self.result or {}).get("promotion")
        facts = metric_facts(news or metrics)
        if promotion:
            facts.append(f"{'promoted' if promotion['promoted'] else 'not promoted'}: {promotion['reason']}")
        return facts


def _metrics(result: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the metrics of a result, without those of single steps."""
    measured = (result or {}).get("metrics") or {}
    return {name: value for name, value in measured.items() if not is_of_steps(name)}
