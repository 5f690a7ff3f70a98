"""`nightshift demo`: start Nightshift in its own data folder, run three jobs, show their results, and stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from api.launcher.process import die_with
from nightshift.cli.follow import watch
from nightshift.client.client import Client, Job
from nightshift.errors import NightshiftError

#: The demo fails below this accuracy on the test images.
ACCURACY_WANTED = 0.97
#: Batches of 32 small images gain little from a second thread; on a busy machine, two threads that synchronize at every
#: operation take four times as long as one.
ENVIRONMENT = {"NIGHTSHIFT_TORCH_THREADS": "1"}
#: Rows of the built-in data set.
DIGITS = 1797
#: Artifacts to point out, with their description.
SHOWN_ARTIFACTS = {
    "curves.png": "learning curves",
    "confusion_matrix.png": "confusion matrix",
    "predictions.png": "25 inputs with predicted and true labels",
    "evaluation.json": "per-class precision, recall, F1, AUC",
    "predictions.parquet": "one row per input",
    "model/model.safetensors": "the weights",
}


@dataclass(frozen=True)
class Step:
    """One job of the demo. `spec` gets the previous jobs; `check` returns what is wrong with the metrics, or None."""

    title: str
    spec: Callable[[list[Job]], dict[str, Any]]
    check: Callable[[dict[str, Any]], str | None]


def check_accuracy(metrics: dict[str, Any]) -> str | None:
    """Return the problem of a model whose test accuracy is too low."""
    accuracy = metrics.get("test_accuracy", 0.0)
    return None if accuracy > ACCURACY_WANTED else f"test accuracy is {accuracy:.4f}, not above {ACCURACY_WANTED}"


def check_rows(metrics: dict[str, Any]) -> str | None:
    """Return the problem of predictions that lack rows."""
    rows = int(metrics.get("rows", 0))
    return None if rows == DIGITS else f"{rows} rows were written, not {DIGITS}"


STEPS = [
    Step(
        "Train a CNN on 1,797 handwritten digits",
        lambda before: {
            "kind": "train",
            "name": "demo: digits",
            "model": {"family": "cnn", "framework": "torch", "preset": "mnist-2conv", "initialization": "he"},
            "dataset": "digits",
            "training": {
                "epochs": 6,
                "batch_size": 32,
                "learning_rate": 0.004,
                "lr_schedule": "onecycle",
                "validation_split": 0.1,
            },
            "register_as": "demo-digits",
        },
        check_accuracy,
    ),
    Step(
        "Fine-tune it: its convolutions stay, the rest learns from shifted and turned digits",
        lambda before: {
            "kind": "finetune",
            "name": "demo: fine-tuned",
            "model_ref": "demo-digits",
            "dataset": "digits",
            "freeze": "features",
            "training": {"epochs": 2, "batch_size": 32, "learning_rate": 0.0005, "augment": ["shift", "rotate"]},
            "register_as": "demo-digits",
        },
        check_accuracy,
    ),
    Step(
        "Batch inference: a row for each of the 1,797 digits",
        lambda before: {
            "kind": "batch_infer",
            "name": "demo: predictions",
            "model_ref": f"job:{before[-1].id}",
            "dataset": "digits",
            "inference": {"task": "predict", "output": "parquet"},
        },
        check_rows,
    ),
]


def run(data_dir: Path) -> int:
    """Run the demo; return 0 if every step succeeded and its result is good enough."""
    out = Console(highlight=False)
    began = time.monotonic()
    try:
        with stack(data_dir, out) as client:
            jobs: list[Job] = []
            for number, step in enumerate(STEPS, 1):
                out.print(f"\n[bold]{number}/{len(STEPS)} {escape(step.title)}[/]", soft_wrap=True)
                jobs.append(_follow(client, step, jobs, out, data_dir))
    except (NightshiftError, DemoFailed) as error:
        out.print(f"[red]The demo failed:[/] {escape(str(error))}")
        return 1
    out.print(
        f"\nDone in {time.monotonic() - began:.0f} s; everything is stopped, files stay in {data_dir.resolve()}.",
        soft_wrap=True,
    )
    out.print("To keep it running: make up")
    return 0


class DemoFailed(Exception):
    """A step failed; the message names the step and the reason."""


def _follow(client: Client, step: Step, before: list[Job], out: Console, data_dir: Path) -> Job:
    job = client.submit(step.spec(before))
    if watch([job], out) != 0:
        raise DemoFailed(f"{step.title}: job {job.id} ended {job.refresh().state} (logs: {data_dir / 'logs'})")
    _show_artifacts(job, out, data_dir / "artifacts" / job.id)
    wrong = step.check((job.refresh().result or {}).get("metrics", {}))
    if wrong:
        raise DemoFailed(f"{step.title}: {wrong}")
    return job


def _show_artifacts(job: Job, out: Console, folder: Path) -> None:
    present = {artifact.path for artifact in job.artifacts()}
    chosen = [path for path in SHOWN_ARTIFACTS if path in present]
    for path, file in zip(chosen, job.download(folder, chosen), strict=True):
        out.print(f"  {file}  [dim]{SHOWN_ARTIFACTS[path]}[/]", soft_wrap=True)


@contextmanager
def stack(data_dir: Path, out: Console) -> Iterator[Client]:
    """Run `nightshift up` on free ports in `data_dir` as a child process; drain it at the end."""
    argv = [sys.executable, "-m", "api.launcher", "--data-dir", str(data_dir), "--port", "0", "--flower-port", "0"]
    began = time.monotonic()
    child = subprocess.Popen(
        argv, env=ENVIRONMENT | os.environ, stdout=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=die_with(os.getpid()),
    )  # fmt: skip
    try:
        with out.status("Starting Redis, the API, a worker, beat and Flower …"):
            endpoints = _ready(child)
        out.print(f"Started in {time.monotonic() - began:.1f} s.")
        out.print(f"  API     {endpoints['api']}/docs  [dim](key in {data_dir / 'api_key'})[/]", soft_wrap=True)
        out.print(f"  Flower  {endpoints['flower']}  [dim](user nightshift, password: the key)[/]", soft_wrap=True)
        with Client(endpoints["api"], data_dir=data_dir) as client:
            yield client
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()


def _ready(child: subprocess.Popen[str]) -> dict[str, str]:
    """Return the fields of the `ready:` line."""
    assert child.stdout is not None
    for line in child.stdout:
        facts = re.fullmatch(r"ready: api=(?P<api>\S+) flower=(?P<flower>\S+) data=(?P<data>.*)\n", line)
        if facts:
            return facts.groupdict()
    raise DemoFailed(f"the stack did not start (exit code {child.wait()})")


app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def demo(
    data_dir: Annotated[Path, typer.Option(help="Where the demo keeps its data and artifacts.")] = Path("demo-data"),
) -> None:
    """Start everything, train on the built-in digits, show the results, stop. Exit code 1 if a result is too poor."""
    raise typer.Exit(run(data_dir))
