"""Fine-tuning against training from scratch on the same small data: test scores, same settings, several seeds.

    python -m benchmarks.study_finetune images MNIST_FOLDER OUT [--seeds 3]
    python -m benchmarks.study_finetune text MODEL_FOLDER TEXT OUT [--seeds 2]

images: `mnist-3conv-tuned` is trained on MNIST for an epoch, then on 50, 150 or 500 of the built-in digits (another
source, 8x8 scaled up), and evaluated on their test part. text: MODEL_FOLDER holds a language model (the `model/` of a
job's artifacts), which is trained on TEXT's first 20, 100 or 400 kB and evaluated on its last tenth. From scratch uses
the same vocabulary, so that perplexities are comparable: the same fine-tuning job, of a model with random weights.
Every run uses `worker.run_job`, the best weights by validation, and one thread.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.stored import store
from shared.datasets.builtins import digits
from shared.datasets.ingest.build import store_images
from shared.datasets.store import open_dataset
from worker.families.gru_lm.family import GruLmModel
from worker.families.gru_lm.weights import initial

IMAGE_COUNTS = (50, 150, 500)
TEXT_BYTES = (20_000, 100_000, 400_000)
IMAGES = {"epochs": 30, "batch_size": 16, "validation_split": 0.2}
TEXTS = {"epochs": 5, "batch_size": 16, "validation_split": 0.1}
PRETRAINED = {"kind": "train", "dataset": "mnist", "training": {"epochs": 1, "batch_size": 64}}
CNN = {"family": "cnn", "framework": "torch", "preset": "mnist-3conv-tuned"}


@dataclass(frozen=True)
class Study:
    out: Path
    measure: str  # of the results
    settings: dict[str, Any]
    seeds: int

    def scores(self, name: str, spec: dict[str, Any], data_set: Path, model: Path | None) -> list[float]:
        found = []
        for seed in range(self.seeds):
            training = {**self.settings, "seed": seed}
            result = run(self.out / f"{name}-{seed}", {**spec, "training": training}, data_set, model)
            found.append(float(result["metrics"][self.measure]))
        return found

    def compare(self, size: str, data_set: Path, learned: Path, scratch: tuple[dict[str, Any], Path | None]) -> None:
        tuned = {"kind": "finetune", "dataset": "few", "model_ref": "job:" + "0" * 16}
        rows = (
            ("from scratch", self.scores(f"{size}-scratch", scratch[0] or tuned, data_set, scratch[1])),
            ("fine-tuned", self.scores(f"{size}-tuned", tuned, data_set, learned)),
        )
        for way, values in rows:
            spread = f"{min(values):.4g} to {max(values):.4g}"
            print(f"{size:>10}  {way:<12}  {self.measure} {statistics.median(values):.4g}  ({spread})", flush=True)


def run(
    folder: Path, spec: dict[str, Any], data_set: Path, model: Path | None = None, threads: int = 1
) -> dict[str, Any]:
    """Run one job; return its result."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [
        sys.executable,
        "-m",
        "worker.run_job",
        str(folder / "spec.json"),
        str(folder),
        "--threads",
        str(threads),
    ]
    command += ["--data-set", str(data_set), *(["--model", str(model)] if model else [])]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{folder}: {ended.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(ended.stdout[ended.stdout.rindex("\n{") :])
    return result


def few_digits(out: Path) -> Iterator[tuple[str, Path]]:
    every = open_dataset(store_images(out / "datasets", digits()).folder)
    order = np.random.default_rng(0).permutation(every.count("train"))
    for count in IMAGE_COUNTS:
        rows = np.sort(order[:count])
        path = out / f"digits-{count}.npz"
        x, y = every.x("train")[rows], every.y("train")[rows]
        np.savez(path, x=x, y=y, x_test=every.x("test"), y_test=every.y("test"))
        yield f"{count}-images", store(path, out / "datasets")


def images(mnist: Path, study: Study) -> None:
    pretrained = study.out / "mnist"
    run(pretrained, {**PRETRAINED, "model": CNN}, store(mnist, study.out / "datasets"))
    scratch = {"kind": "train", "dataset": "few", "model": CNN}
    for size, data_set in few_digits(study.out):
        study.compare(size, data_set, pretrained / "artifacts" / "model", (scratch, None))


def short_texts(text: Path, out: Path) -> Iterator[tuple[str, Path]]:
    whole = text.read_bytes()
    for size in TEXT_BYTES:
        folder = out / f"text-{size}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in (("train", whole[:size]), ("test", whole[-len(whole) // 10 :])):
            (folder / f"{name}.txt").write_bytes(part)
        yield f"{size // 1000}-kB", store(folder, out / "datasets")


def untrained(learned: Path, folder: Path) -> Path:
    """Return the same model with its initial random weights."""
    shutil.copytree(learned, folder, dirs_exist_ok=True)
    config = json.loads((learned / "config.json").read_text())
    model = GruLmModel.model_validate(config["model"])
    save_file(initial(model, int(config["vocabulary"]), seed=0), folder / "model.safetensors")
    return folder


def texts(learned: Path, text: Path, study: Study) -> None:
    nothing = untrained(learned, study.out / "untrained")
    for size, data_set in short_texts(text, study.out):
        study.compare(size, data_set, learned, ({}, nothing))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    what = parser.add_subparsers(dest="what", required=True)
    for name, sources, seeds in (("images", ["mnist"], 3), ("text", ["learned", "text"], 2)):
        command = what.add_parser(name)
        for argument in [*sources, "out"]:
            command.add_argument(argument, type=lambda given: Path(given).resolve())
        command.add_argument("--seeds", type=int, default=seeds)
    given = parser.parse_args()
    if given.what == "images":
        images(given.mnist, Study(given.out, "test_accuracy", IMAGES, given.seeds))
    else:
        texts(given.learned, given.text, Study(given.out, "test_perplexity", TEXTS, given.seeds))


if __name__ == "__main__":
    main()
