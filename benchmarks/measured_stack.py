"""A whole stack of this checkout or another one, with what it uses of the machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.stack import eventually, runs

#: Share of a core below which a stack is idle.
IDLE_SHARE = 0.05
JOB = {"kind": "train", "dataset": "digits", "training": {"epochs": 1, "max_steps": 1, "batch_size": 32}}


class MeasuredStack:
    """A stack started by `nightshift up` of a checkout, with settings by name."""

    def __init__(self, source: Path, folder: Path, **settings: object) -> None:
        module = "nightshift.cli.app" if (source / "nightshift").is_dir() else "api.client.cli"  # before 0.4
        command = [sys.executable, "-m", module, "up", "--data-dir", str(folder / "data")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTSHIFT_")}
        begun = time.monotonic()
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--flower-port", "0", "--device", "cpu"],
            cwd=source,
            env={**environment, "PYTHONPATH": str(source), **_variables(settings)},
            stdout=subprocess.PIPE,
            stderr=(folder / "errors").open("w"),
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.ready_seconds = time.monotonic() - begun
        found = re.match(r"ready: api=(\S+)", line)
        assert found is not None, (folder / "errors").read_text()
        key = (folder / "data" / "api_key").read_text().strip()
        self.client = httpx.Client(base_url=found[1], headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def settle(self, seconds: float) -> None:
        """Wait until the processes have done next to nothing for some seconds, and none of the start is left."""
        before, begun = self.processor_seconds(), time.monotonic()
        while time.monotonic() - begun < seconds:
            time.sleep(0.2)
            if self.processor_seconds() - before > IDLE_SHARE * seconds or self._is_starting():
                before, begun = self.processor_seconds(), time.monotonic()

    def _is_starting(self) -> bool:
        return any(runs("api.launcher.checks", process) for process in self._processes())

    def processor_seconds(self) -> float:
        """Return the processor time of all processes, and of those that have ended."""
        total = 0.0
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total

    def _processes(self) -> list[psutil.Process]:
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def memory(self) -> dict[str, float]:
        """Return the megabytes of each process, and their sum."""
        found: dict[str, float] = {}
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                name = _name_of(process, found)
                found[name] = round(process.memory_full_info().pss / 1e6, 1)
        return {**found, "all": round(sum(found.values()), 1)}

    def first_step_seconds(self, framework: str) -> float:
        """Return the seconds from a submission until the API tells its first step."""
        body = {**JOB, "model": {"family": "cnn", "preset": "mnist-3conv", "framework": framework}}
        begun = time.time()
        answer = self.client.post("/v1/jobs", json=body)
        answer.raise_for_status()
        path = f"/v1/jobs/{answer.json()['id']}"

        def stepped() -> Any:
            job = self.client.get(path).raise_for_status().json()
            assert job["state"] != "failed", job
            return (job["progress"] or {}).get("step")

        eventually("the first step", stepped)
        seconds = time.time() - begun
        eventually("the end", lambda: self.client.get(path).json()["state"] == "succeeded")
        return round(seconds, 2)

    def stop(self) -> None:
        """Stop the stack."""
        self.client.close()
        self.process.terminate()
        self.process.wait(120)


def _name_of(process: psutil.Process, others: dict[str, float]) -> str:
    """Return the module that the process runs, with a forkserver's framework; a runner has its forkserver's name."""
    words = process.cmdline()
    name = words[words.index("-m") + 1] if "-m" in words else Path(words[0]).name
    if name.endswith("forkserver"):
        framework = next((word for word in words if word in ("torch", "tensorflow")), "bare")
        parent = process.parent()
        name = f"{framework} {'runner' if parent and 'worker.main' not in parent.cmdline() else 'forkserver'}"
    return name if name not in others else f"{name} {process.pid}"


def _variables(settings: Mapping[str, object]) -> dict[str, str]:
    return {f"NIGHTSHIFT_{name.upper()}": str(value) for name, value in settings.items()}
