"""The Lightning callback with the real library: killed and stopped runs end with the bits of an untouched one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.program_runs import Job, documented

torch: Any = pytest.importorskip("torch")
lightning: Any = pytest.importorskip("lightning.pytorch")
callbacks: Any = pytest.importorskip("nightshift.integrations.lightning")

pytestmark = [
    # Lightning's own use of torch.
    pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning"),
    # The loaders are so small that they need no processes.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

#: 20 rows in batches of 8: three steps an epoch.
ROWS, BATCH, EPOCHS = 20, 8, 4
STEPS = 3 * EPOCHS


class Net(lightning.LightningModule):  # type: ignore[misc]
    """A model with dropout and a schedule, whose random states and place are part of the state."""

    def __init__(self) -> None:
        super().__init__()
        layers = [torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(6, 3)]
        self.layers = torch.nn.Sequential(*layers)

    def loss(self, batch: Any) -> Any:
        x, y = batch
        return torch.nn.functional.cross_entropy(self.layers(x), y)

    def training_step(self, batch: Any, number: int) -> Any:
        loss = self.loss(batch)
        self.log("loss", loss)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, number: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 0.05)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]


def loader(part: int, shuffle: bool) -> Any:
    generator = torch.Generator().manual_seed(part)
    x = torch.randn(ROWS, 4, generator=generator)
    y = torch.randint(0, 3, (ROWS,), generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), BATCH, shuffle=shuffle)


def train(run: Any, *, trainer: dict[str, Any] | None = None, **options: Any) -> list[Any]:
    lightning.seed_everything(run.seed, verbose=False)
    model, callback = Net(), callbacks.NightshiftCallback(run, **options)
    fitting = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        callbacks=[callback],
        default_root_dir=run.scratch,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **(trainer or {}),
    )
    fitting.fit(model, loader(0, True), loader(1, False), ckpt_path=callback.ckpt_path)
    return [value.detach().numpy().copy() for value in model.state_dict().values()]


def same(found: list[Any], wanted: list[Any]) -> bool:
    return all(ours.tobytes() == theirs.tobytes() for ours, theirs in zip(found, wanted, strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return an untouched job."""
    job = Job(tmp_path_factory.mktemp("whole"), train)
    job.attempt()
    return job


def test_rows_follow_from_steps(whole: Job) -> None:
    assert whole.steps_of("loss") == list(range(1, STEPS + 1))
    assert whole.steps_of("train_loss") == whole.steps_of("val_loss") == [3, 6, 9, 12]
    assert {row.name for row in whole.rows} == {"loss", "train_loss", "val_loss"}
    assert {row.epoch for row in whole.rows if row.step <= 3} == {0}
    assert whole.saved == [6, 12], "due at steps 4 and 10, saved at the ends of the epochs"


def test_fewer_rows_have_the_same_values(whole: Job, tmp_path: Path) -> None:
    job = Job(tmp_path, partial(train, every=2))
    reporter = job.attempt()
    assert job.steps_of("loss") == [2, 4, 6, 8, 10, 12]
    assert [row for row in whole.rows if row.name != "loss" or row.step % 2 == 0] == job.rows
    assert reporter.totals == {STEPS}


@pytest.mark.parametrize("at", [5, 7, 9, 11])
def test_a_killed_run_ends_like_an_untouched_one(whole: Job, tmp_path: Path, at: int) -> None:
    job = Job(tmp_path, train)
    job.attempt(at=at)
    assert job.result is None
    resumed = job.attempt()
    assert resumed.steps[0] == (1 if at == 5 else 7)
    assert same(job.result, whole.result)
    assert job.rows == whole.rows


@pytest.mark.parametrize("at", [2, 4, 6, 8, 12])
def test_a_stopped_run_loses_only_its_unfinished_epoch(whole: Job, tmp_path: Path, at: int) -> None:
    job = Job(tmp_path, train, every_steps=100)
    stopped = job.attempt(stop="pause", at=at)
    assert max(stopped.steps) == at
    complete = (at - 1) // 3 * 3  # a stop within the last step of an epoch comes before its validation
    assert job.saved == ([complete] if complete else [])
    job.attempt()
    assert same(job.result, whole.result)
    assert job.rows == whole.rows


def test_a_stop_ends_a_validation_within_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def stopped(run: Any) -> None:
        def step(self: Any, batch: Any, number: int) -> None:
            if not self.trainer.sanity_checking:
                seen.append(number)
            if len(seen) == 4:  # the first batch of the second validation
                run._reporter.stop_reason = "drain"

        monkeypatch.setattr(Net, "validation_step", step)
        train(run)

    job = Job(tmp_path, stopped, every_steps=100)
    job.attempt()
    assert seen == [0, 1, 2, 0]
    assert job.saved == [3]


def test_a_least_number_of_epochs_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    job = Job(tmp_path, partial(train, trainer={"min_epochs": 3}))
    reporter = job.attempt(stop="drain", at=4)
    assert max(reporter.steps) == 4


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    accumulated = partial(train, trainer={"accumulate_grad_batches": 2})
    untouched, job = Job(tmp_path / "whole", accumulated), Job(tmp_path / "killed", accumulated)
    untouched.attempt()
    assert untouched.steps_of("loss") == list(range(1, 2 * EPOCHS + 1))
    job.attempt(at=6)
    assert job.saved == [4]
    job.attempt()
    assert same(job.result, untouched.result)
    assert job.rows == untouched.rows


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_run_that_need_not_be_exact_keeps_each_step(tmp_path: Path) -> None:
    job = Job(tmp_path, partial(train, exact=False))
    job.attempt(stop="pause", at=5)
    assert job.saved == [4, 5]
    resumed = job.attempt()
    assert resumed.steps[0] == 6
    assert job.steps_of("loss") == list(range(1, STEPS + 1))


def test_the_documented_program_resumes_exactly(tmp_path: Path) -> None:
    """The snippet of docs/howto/own-program.md, as it stands there."""
    module, loaders = "nightshift.integrations.lightning", {"train": (0, True), "test": (1, False)}
    program = documented(module, new_model=lambda params: Net(), data=lambda part: loader(*loaders[part]))
    jobs = [Job(tmp_path / name, program, 2, SimpleNamespace(epochs=3)) for name in ("whole", "killed")]
    jobs[0].attempt()
    jobs[1].attempt(at=5)
    assert jobs[1].saved
    jobs[1].attempt()
    assert jobs[1].rows == jobs[0].rows
    assert (tmp_path / "killed" / "artifacts" / "model" / "model.ckpt").exists()
