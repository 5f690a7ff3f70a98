"""A nightly retraining on real data through the whole stack: append over HTTP, tick, job, worker, promotion.

Only the clock is moved, to two o'clock of each night.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from nightshift.client.client import Client, Job
from shared.datasets.builtins import digits
from shared.db.engine import write
from shared.fleet import keys
from tests.support.factories import OWNER
from tests.support.redis import free_port
from tests.support.shifted_clock import Clock
from tests.support.stack import Stack, eventually

NAME = "digits-nightly"
FROZEN = f"{NAME}@1"
#: Rows of the first version's training part, of its test part (frozen for good), and of each night.
START, TEST, PER_NIGHT = 120, 360, 40
#: Rows with wrong labels of a poisoned night: more than there are right ones.
POISON = 1500
SEED = 7

MODEL = {"family": "cnn", "image_size": [8, 8], "filters": [16], "pool": [True], "kernel_size": 3, "dense": [32]}
TRAINING = {"epochs": 12, "batch_size": 32, "learning_rate": 0.003, "validation_split": 0.1}
PROMOTE = {"alias": "champion", "metric": "test_accuracy", "min_improvement": 0.002, "evaluate_on": NAME}


@dataclass(frozen=True)
class Night:
    number: int
    poisoned: bool
    warm: bool
    dataset: str
    rows: int
    version: int
    candidate: float
    champion: float | None
    promoted: bool
    reason: str
    #: Test accuracy of the champion after this night, measured by an evaluate job on the frozen test part.
    standing: float
    sha256: str  # of its weights


class Nightly:
    """The stack, the data and the nights so far."""

    def __init__(self, stack: Stack, clock: Clock, framework: str, **training: Any) -> None:
        self.stack, self.clock, self.framework = stack, clock, framework
        self.images, self.labels = _shuffled()
        self.used = START + TEST
        self.training = {**TRAINING, **training}
        self.measured: dict[int, float] = {}
        self.nights: list[Night] = []
        self.client = self._start()

    def _start(self) -> Client:
        port, clock = free_port(), str(self.clock.path)
        self.stack.start("api", "tests.support.shifted_clock", clock, "api.server", api_port=port)
        self.stack.start("beat", "tests.support.shifted_clock", clock, "worker.beat")
        self.stack.start("cpu0", "tests.support.shifted_clock", clock, "worker.main", "--device", "cpu", "--index", "0")
        with write(self.stack.engine) as conn:
            key = keys.create(conn, "nightly", OWNER)[1]
        client = Client(f"http://127.0.0.1:{port}", key, retries=8)
        eventually("the worker is online", lambda: _answered(client))
        return client

    # -- nights -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Add the first version of the data, and the schedule `0 2 * * *` in Berlin, from scratch."""
        train, test = slice(0, START), slice(START, START + TEST)
        x, y = self.images, self.labels
        self.client.add_dataset(NAME, self._file("first", x=x[train], y=y[train], x_test=x[test], y_test=y[test]))
        job = {"kind": "train", "name": "digits {date}", "dataset": NAME, "register_as": NAME}
        job |= {"model": {**MODEL, "framework": self.framework}, "training": self.training, "promote": PROMOTE}
        self.client.add_schedule({"name": "nightly", "cron": "0 2 * * *", "timezone": "Europe/Berlin", "job": job})

    def warm(self) -> None:
        """From now on fine-tune the champion instead of training from scratch."""
        job = {"kind": "finetune", "name": "digits {date}", "dataset": NAME, "register_as": NAME, "promote": PROMOTE}
        job |= {"model_ref": f"{NAME}@champion", "framework": self.framework}
        job["training"] = {**self.training, "learning_rate": 0.001}
        frozen = {**PROMOTE, "evaluate_on": FROZEN}
        self.client.change_schedule("nightly", job={**job, "promote": frozen})

    def night(self, *, poisoned: bool = False) -> Night:
        """Append data, move the clock to two, and run the tick's job to its end."""
        number = len(self.nights) + 1
        self.client.append_to_dataset(NAME, self._poison() if poisoned else self._tonight(number))
        job = self._job_of_tick()
        promotion = (job.result or {})["promotion"]
        champion = int(self.client.model(NAME)["aliases"]["champion"])
        shown = self.client.model(NAME)["versions"][0]
        data = self.client.dataset(shown["dataset"])
        night = Night(
            number, poisoned, job.data["kind"] == "finetune", shown["dataset"], data["splits"]["train"]["count"],
            *(promotion[name] for name in ("version", "candidate", "champion", "promoted", "reason")),
            self.measure(champion), self.weights_of(champion),
        )  # fmt: skip
        self.nights.append(night)
        if poisoned:  # delete the bad version; the next night appends to the one before
            self.client.delete_dataset_version(NAME, int(shown["dataset"].partition("@")[2]))
        return night

    def _job_of_tick(self) -> Job:
        seen = {tick["tick"] for tick in self.client.schedule_history("nightly")}
        due = datetime.fromisoformat(str(self.client.schedule("nightly")["next_at"]))
        self.clock.advance(due.timestamp() - self.clock.now() + 1)

        def new() -> list[dict[str, Any]]:
            return [tick for tick in self.client.schedule_history("nightly") if tick["tick"] not in seen]

        (tick,) = eventually("the tick came", new)
        assert datetime.fromisoformat(tick["due_at"]) == due
        return self._done(self.client.job(tick["job_id"]))

    def _done(self, job: Job) -> Job:
        eventually(f"job {job.id} is final", lambda: job.refresh().is_final)
        assert job.state == "succeeded", job.data
        return job

    # -- results ------------------------------------------------------------------------------------

    def measure(self, version: int) -> float:
        """Return a version's accuracy on the frozen test part, by one evaluate job per version."""
        if version not in self.measured:
            body = {
                "kind": "evaluate",
                "model_ref": f"{NAME}@{version}",
                "dataset": FROZEN,
                "framework": self.framework,
            }
            self.measured[version] = (self._done(self.client.submit(body)).result or {})["metrics"]["test_accuracy"]
        return self.measured[version]

    def weights_of(self, version: int) -> str:
        """Return the SHA-256 of the weights as a user downloads them."""
        made = {item["version"]: item["job_id"] for item in self.client.model(NAME)["versions"]}
        return hashlib.sha256(self.client.job(made[version]).artifact("model/model.safetensors")).hexdigest()

    def champion(self) -> tuple[int, str]:
        version = int(self.client.model(NAME)["aliases"]["champion"])
        return version, self.weights_of(version)

    # -- data ---------------------------------------------------------------------------------------

    def _tonight(self, number: int) -> Path:
        rows = slice(self.used, self.used + PER_NIGHT)
        self.used += PER_NIGHT
        return self._file(f"night{number}", x=self.images[rows], y=self.labels[rows])

    def _poison(self) -> Path:
        """Write images of the training data, each labeled as the next digit."""
        rows = np.arange(POISON) % START
        return self._file("poison", x=self.images[rows], y=(self.labels[rows] + 1) % 10)

    def _file(self, name: str, **arrays: Any) -> Path:
        path = self.stack.folder / f"{name}.npz"
        np.savez(path, **arrays)
        return path


def _shuffled() -> tuple[Any, Any]:
    split = digits().splits["train"]
    images, order = np.concatenate(list(split.chunks())), np.random.default_rng(SEED).permutation(len(split.labels))
    return images[order], split.labels[order]


def _answered(client: Client) -> bool:
    try:
        return any(worker["state"] == "online" for worker in client.workers())
    except Exception:
        return False


@contextmanager
def nightly(stack: Stack, framework: str = "torch", **training: Any) -> Iterator[Nightly]:
    """Yield a nightly retraining; its processes end with the stack."""
    retraining = Nightly(stack, Clock(stack.folder / "clock"), framework, **training)
    try:
        retraining.begin()
        yield retraining
    finally:
        retraining.client.close()
