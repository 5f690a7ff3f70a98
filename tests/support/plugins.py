"""Packages with plug-ins, as pip leaves them in a folder: modules, and a dist-info with entry points and a RECORD."""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from nightshift import metrics

#: A declaration; `walk` is a random walk that has state in arrays and in a file.
DECLARATION = """
from pydantic import BaseModel, ConfigDict, Field

from nightshift.metrics import Metric
from nightshift.programs import Program


class Params(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    steps: int = Field(20, ge=1)
    rate: float = Field(0.9, gt=0, lt=1)
    killed_at: int | None = None
    marker: str = ""
    told_secret: str | None = None
    target: float = 0.0


PROGRAM = Program(
    name="walk", train="walk_training:train", params=Params, description="A random walk.", promise="exact"{more}
)
"""

TRAINING = """
import os
import signal
from pathlib import Path

import numpy as np


def train(run):
    place, start = np.zeros(3), 0
    if saved := run.latest():
        place, start = saved.arrays()["place"], saved.step
        assert (saved.folder / "steps.txt").read_text() == str(start) and saved.facts == {"half": start / 2}
    if run.params.told_secret:
        print("the secret is", os.environ[run.params.told_secret], flush=True)
        run.note("noted " + os.environ[run.params.told_secret])
    for step in range(start + 1, run.params.steps + 1):
        noise = np.random.Generator(np.random.Philox(key=run.seed, counter=step)).standard_normal(3)
        place = run.params.rate * place + noise
        run.log({"loss": float(np.square(place).sum())}, step)
        run.progress(step, run.params.steps)
        if run.should_stop() or run.checkpoint_due(step):
            run.save(step, arrays={"place": place}, files={"steps.txt": str(step).encode()}, facts={"half": step / 2})
        if run.should_stop():
            break
        if step == run.params.killed_at and not Path(run.params.marker).exists():
            Path(run.params.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    model = run.scratch / "model"
    model.mkdir(exist_ok=True)
    np.save(model / "place.npy", place)
    run.register(model, {"test_loss": float(np.square(place).sum())})


def evaluate(run, model):
    assert (run.dataset / "meta.json").exists()
    return {"distance": abs(float(np.load(model / "place.npy")[0]) - run.params.target)}
"""

#: Arguments of a Program whose models can be compared.
JUDGED = (
    ', dataset_kinds=("image",), evaluate="walk_training:evaluate", metrics={"distance": Metric("distance", "min")}'
)


def write_package(
    folder: Path,
    *,
    name: str = "nightshift-walk",
    version: str = "1.0",
    entry: str = "walk = walk_program:PROGRAM",
    declaration: str | None = None,
    more: str = "",
    training: str = TRAINING,
) -> Path:
    """Write a package into a folder that can be put on `sys.path`; `more` goes into the arguments of its Program."""
    modules = {
        "walk_program.py": DECLARATION.replace("{more}", more) if declaration is None else declaration,
        "walk_training.py": training,
    }
    return write_modules(folder, modules, name=name, version=version, points=f"[nightshift.programs]\n{entry}\n")


def write_modules(folder: Path, modules: dict[str, str], *, name: str, version: str = "1.0", points: str) -> Path:
    """Write a package of these modules and entry points."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
        shutil.rmtree(old)
    for module, text in modules.items():
        (folder / module).write_text(dedent(text))
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(points)
    (info / "RECORD").write_text("".join(f"{module},sha256={_hash(text)},\n" for module, text in modules.items()))
    return folder


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def forget_modules() -> None:
    """Let the next import read the package's modules anew."""
    for module in ("walk_program", "walk_training", "linear_family", "linear_learner"):
        sys.modules.pop(module, None)


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the folder on the path of this process until the test ends."""
    forget_modules()
    monkeypatch.setattr(metrics, "_declared", {})
    monkeypatch.syspath_prepend(str(folder))
