"""A host with GPUs that are not there: an NVML and frameworks that say what a test writes to a file.

Put `Host.pythonpath` on PYTHONPATH (or call `enter`), and change the host while processes run.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.takeover import ROOT
from worker.runners import device_probe

_CODE = Path(__file__).parent / "takeover" / "gpus"
GB = 1_000_000_000


def card(
    uuid: str, *, instances: list[dict[str, Any] | None] | None = None, error: int | None = None
) -> dict[str, Any]:
    """Return a card. `instances`: MIG is on (None: a free place); `error`: what NVML answers instead."""
    return {"uuid": uuid, "name": "NVIDIA Test", "memory": 80 * GB, "instances": instances, "error": error}


def instance(uuid: str) -> dict[str, Any]:
    """Return an instance of a card."""
    return {"uuid": uuid, "name": "NVIDIA Test MIG 1g.10gb", "memory": 10 * GB}


def pretend(sitecustomize: str) -> None:
    """In a forkserver: let its frameworks work as the file beside its `sitecustomize` says."""
    for framework, module in device_probe.PROBES.items():
        sys.modules[module] = cast(ModuleType, SimpleNamespace(problem=partial(_problem, sitecustomize, framework)))


def _problem(sitecustomize: str, framework: str) -> str | None:
    """Return what a framework says on the GPU of this process."""
    uuid = os.environ["CUDA_VISIBLE_DEVICES"]
    host = json.loads(Path(sitecustomize).with_name("host.json").read_text())
    if any(card["uuid"] == uuid and card["error"] is not None for card in host["cards"]):
        raise RuntimeError("CUDA error: no CUDA-capable device is detected")
    reason: str | None = host["frameworks"].get(f"{framework} {uuid}") or host["frameworks"].get(f"{framework} ")
    if reason == "dies":
        os.abort()
    return reason


class Host:
    """The GPUs of a pretended host."""

    def __init__(self, folder: Path, *cards: dict[str, Any], error: int | None = None) -> None:
        """Create the host. `error`: what NVML answers when it is opened."""
        self.folder = folder / "gpus"
        shutil.copytree(_CODE, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.state: dict[str, Any] = {"error": error, "cards": list(cards), "frameworks": {}}
        self._write()

    @property
    def pythonpath(self) -> str:
        """Return the PYTHONPATH of a worker on this host, whose jobs are probes."""
        return os.pathsep.join([str(self.folder), str(ROOT)])

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process be on the host."""
        spec = spec_from_file_location("pynvml", self.folder / "pynvml.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def lose(self, number: int, error: int = 15) -> None:
        """Lose a card: NVML says so, and no framework works on it."""
        self.state["cards"][number]["error"] = error
        self._write()

    def find(self, number: int) -> None:
        """Bring a lost card back."""
        self.state["cards"][number]["error"] = None
        self._write()

    def breaks(self, framework: str, reason: str | None, uuid: str = "") -> None:
        """Let a framework not work (None: work again; `dies`: its process ends) on the GPU of that UUID, or on all."""
        self.state["frameworks"][f"{framework} {uuid}"] = reason
        self._write()

    def _write(self) -> None:
        new = self.folder / "host.new"
        new.write_text(json.dumps(self.state))
        new.rename(self.folder / "host.json")
