"""Progress of a run for people, sent at most a few times per second; the first step at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from worker.hardware.gpu_memory import peak_bytes
from worker.runners.messages import Progress
from worker.training.reporter import Reporter

#: Seconds between two progress frames. Too low: the pipe costs training time. Too high: progress bars jump.
INTERVAL = 0.25
#: Weight of the newest speed in the moving average.
SMOOTHING = 0.3


class ProgressMeter:
    """Measures speed and sends progress. Time spent on validation and checkpoints does not count."""

    def __init__(
        self,
        total_steps: int,
        batch_size: int,
        step: int,
        reporter: Reporter,
        phase: str = "train",
        whole_steps: int | None = None,
    ) -> None:
        """Begin at `step`. `whole_steps` are those of the whole job, of which this is a shard."""
        self.own_phase, self.whole_steps = phase, whole_steps
        self.total_steps, self.batch_size, self.reporter = total_steps, batch_size, reporter
        self.step, self.epoch = step, 0
        self.loss: float | None = None
        self._speed: float | None = None  # steps per second
        self._phase = phase
        self._sent_at = float("-inf")
        self._speed_from = self._row_from = (step, time.perf_counter())

    def stepped(self, step: int, epoch: int) -> None:
        """Note a finished step, and send progress if it is due."""
        self.step, self.epoch = step, epoch
        now = time.perf_counter()
        if now - self._sent_at < INTERVAL and step != self.total_steps:
            return
        self._measure(now)
        self._send(now, self.own_phase)

    def samples_per_second(self) -> float:
        """Return the speed since the last call; an epoch's last batch counts as a whole one."""
        (step, at), now = self._row_from, time.perf_counter()
        self._row_from = (self.step, now)
        return (self.step - step) * self.batch_size / max(now - at, 1e-9)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Report a phase other than training and exclude its time from the speed."""
        started, before = time.perf_counter(), self._phase
        self.enter(name)
        if started - self._sent_at >= INTERVAL / 5:
            self._send(started, name)
        yield
        elapsed = time.perf_counter() - started
        self._speed_from, self._row_from = _later(self._speed_from, elapsed), _later(self._row_from, elapsed)
        self.enter(before)

    def enter(self, name: str) -> None:
        """Report the phase from here on; the watchdog's limit depends on it."""
        self._phase = name
        self.reporter.phase(name)

    def _measure(self, now: float) -> None:
        step, at = self._speed_from
        if self.step > step and now > at:
            speed = (self.step - step) / (now - at)
            self._speed = speed if self._speed is None else self._speed + SMOOTHING * (speed - self._speed)
            self._speed_from = (self.step, now)

    def _send(self, now: float, phase: str) -> None:
        self._sent_at = now
        speed = self._speed
        self.reporter.progress(
            Progress(
                step=self.step,
                total_steps=self.total_steps,
                whole_steps=self.whole_steps,
                epoch=self.epoch,
                percent=round(100 * self.step / max(1, self.total_steps), 2),
                eta_seconds=round((self.total_steps - self.step) / speed, 2) if speed else None,
                samples_per_second=round(speed * self.batch_size, 1) if speed else None,
                loss=self.loss,
                phase=phase,
                at=time.time(),
                peak_device_memory_bytes=peak_bytes(),
            )
        )


def _later(point: tuple[int, float], seconds: float) -> tuple[int, float]:
    return point[0], point[1] + seconds
