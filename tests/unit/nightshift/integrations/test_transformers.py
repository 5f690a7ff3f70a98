"""The callback of transformers with the real Trainer: killed, stopped and resumed at any step, with the same bits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.program_runs import Job, documented

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")
callbacks: Any = pytest.importorskip("nightshift.integrations.transformers")

#: 20 texts in batches of 8: three steps an epoch.
ROWS, BATCH, EPOCHS = 20, 8, 4
STEPS = 3 * EPOCHS


def data(part: int) -> list[dict[str, Any]]:
    words = torch.randint(0, 30, (ROWS, 6), generator=torch.Generator().manual_seed(part))
    return [{"input_ids": row, "labels": row} for row in words]


def new_model() -> Any:
    """Return a GPT-2 of a few hundred weights, with dropout."""
    config = transformers.GPT2Config(vocab_size=30, n_positions=6, n_embd=8, n_layer=1, n_head=2)
    return transformers.GPT2LMHeadModel(config)


def train(run: Any, **more: Any) -> list[Any]:
    transformers.set_seed(run.seed)
    model, callback = new_model(), callbacks.NightshiftCallback(run)
    chosen = {"save_strategy": "no", "logging_steps": 1, "eval_strategy": "epoch", **more}
    arguments = transformers.TrainingArguments(
        str(run.scratch / "trainer"),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        learning_rate=0.05,
        seed=run.seed,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **chosen,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=data(0), eval_dataset=data(1), callbacks=[callback])
    trainer.train(resume_from_checkpoint=callback.resume_from_checkpoint)
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
    steps = list(range(1, STEPS + 1))
    assert whole.steps_of("loss") == whole.steps_of("learning_rate") == whole.steps_of("grad_norm") == steps
    assert whole.steps_of("val_loss") == [3, 6, 9, 12]
    assert {row.name for row in whole.rows} == {"loss", "learning_rate", "grad_norm", "val_loss"}
    assert whole.saved == [4, 8, 12]


def test_a_checkpoint_leaves_no_second_copy(tmp_path: Path) -> None:
    Job(tmp_path, train).attempt()
    assert _left_by_the_trainer(tmp_path) == []


def _left_by_the_trainer(folder: Path) -> list[str]:
    (output,) = (folder / "scratch").glob("*/trainer")
    return sorted(path.name for path in output.glob("checkpoint-*"))


def test_what_the_trainer_saves_by_itself_stays_its_own(tmp_path: Path) -> None:
    job = Job(tmp_path, partial(train, save_strategy="steps", save_steps=5))
    job.attempt()
    assert job.saved == [4, 8, 12]
    assert _left_by_the_trainer(tmp_path) == [
        "checkpoint-10",
        "checkpoint-12",
        "checkpoint-4",
        "checkpoint-5",
        "checkpoint-8",
    ]


@pytest.mark.parametrize("at", [3, 6, 7, 9, 11])
def test_a_killed_run_ends_like_an_untouched_one(whole: Job, tmp_path: Path, at: int) -> None:
    job = Job(tmp_path, train)
    job.attempt(at=at)
    assert job.result is None
    resumed = job.attempt()
    assert resumed.steps[0] == (at - 1) // 4 * 4 + 1
    assert same(job.result, whole.result)
    assert job.rows == whole.rows


@pytest.mark.parametrize("at", [2, 6, 7, 9])
def test_a_stopped_run_loses_nothing(whole: Job, tmp_path: Path, at: int) -> None:
    job = Job(tmp_path, train, every_steps=100)
    stopped = job.attempt(stop="pause", at=at)
    assert max(stopped.steps) == at
    assert job.saved == [at]
    job.attempt()
    assert same(job.result, whole.result)
    assert job.rows == whole.rows


def test_a_stop_within_an_epoch_does_not_evaluate(tmp_path: Path) -> None:
    job = Job(tmp_path, train, every_steps=100)
    job.attempt(stop="preempt", at=5)
    assert job.steps_of("val_loss") == [3]


@pytest.mark.parametrize("at", [4, 6])
def test_cancelling_saves_and_evaluates_nothing(tmp_path: Path, at: int) -> None:
    job = Job(tmp_path, partial(train, eval_strategy="steps", eval_steps=2))
    reporter = job.attempt(stop="cancel", at=at)
    assert max(reporter.steps) == at
    assert at not in job.saved
    assert job.steps_of("val_loss") == list(range(2, at, 2))


def test_evaluations_at_steps_resume_exactly(tmp_path: Path) -> None:
    often = partial(train, eval_strategy="steps", eval_steps=2)
    untouched, job = Job(tmp_path / "whole", often), Job(tmp_path / "stopped", often)
    untouched.attempt()
    job.attempt(stop="drain", at=6)
    assert job.saved == [4, 6]
    job.attempt()
    assert same(job.result, untouched.result)
    assert job.rows == untouched.rows


def test_a_stop_during_an_evaluation_saves_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(run: Any) -> list[Any]:
        on_prediction_step = callbacks.NightshiftCallback.on_prediction_step

        def step(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == 6:
                run._reporter.stop_reason = "drain"
            on_prediction_step(self, args, state, control, **more)

        with monkeypatch.context() as patch:
            patch.setattr(callbacks.NightshiftCallback, "on_prediction_step", step)
            return train(run)

    job = Job(tmp_path, stopped, every_steps=100)
    reporter = job.attempt()
    assert max(reporter.steps) == 6
    assert job.saved == [6]


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    accumulated = partial(train, gradient_accumulation_steps=2)
    untouched, job = Job(tmp_path / "whole", accumulated), Job(tmp_path / "killed", accumulated)
    untouched.attempt()
    assert untouched.steps_of("loss") == list(range(1, 2 * EPOCHS + 1))
    job.attempt(at=6)
    job.attempt()
    assert same(job.result, untouched.result)
    assert job.rows == untouched.rows


def test_a_setting_that_leaves_nothing_to_resume_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save_only_model=True"):
        Job(tmp_path, partial(train, save_only_model=True)).attempt()


def test_the_documented_program_resumes_exactly(tmp_path: Path) -> None:
    """The snippet of docs/howto/own-program.md, as it stands there."""
    module = "nightshift.integrations.transformers"
    program = documented(module, new_model=lambda params: new_model(), data=lambda part: data(int(part == "test")))
    jobs = [Job(tmp_path / name, program, 2, SimpleNamespace(epochs=3)) for name in ("whole", "killed")]
    jobs[0].attempt()
    jobs[1].attempt(at=6)
    assert jobs[1].saved
    jobs[1].attempt()
    assert jobs[1].rows == jobs[0].rows
    assert (tmp_path / "killed" / "artifacts" / "model" / "model.safetensors").exists()
