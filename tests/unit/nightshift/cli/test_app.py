"""The command line: what is sent, what is printed where, exit codes, and errors without tracebacks."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

from nightshift.cli.render import tables
from nightshift.cli.render.job_columns import FIELDS
from nightshift.client import client, transport
from tests.support.cli import invoke as invoke_cli
from tests.support.fake_api import ID, OTHER_ID, FakeApi, job_data, problem

Run = Callable[..., Result]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeApi:
    fake = FakeApi()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIGHTSHIFT_API_URL", "http://api.test")
    monkeypatch.setenv("NIGHTSHIFT_API_KEY", "key")
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(transport.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(client, "Client", functools.partial(client.Client, transport=fake.transport))
    return fake


@pytest.fixture
def run(fake: FakeApi) -> Run:
    def invoke(*args: str, code: int = 0, input: str | None = None) -> Result:
        result = invoke_cli(*args, input=input)
        assert result.exit_code == code, (result.output, result.exception)
        assert "Traceback" not in result.output
        return result

    return invoke


# -- submit ---------------------------------------------------------------------------------------


def test_submit_prints_the_id_and_nothing_else_on_stdout(run: Run, fake: FakeApi) -> None:
    assert run("submit", "train", "cnn", "--dataset", "digits", "--epochs", "5").stdout == f"{ID}\n"
    assert fake.bodies() == [
        {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits", "training": {"epochs": 5}}
    ]


def test_rerun_sends_what_differs_and_prints_the_new_id(run: Run, fake: FakeApi) -> None:
    fake.jobs = {ID: job_data()}
    told = run("rerun", ID[:6], "--set", "training.epochs=10", "--set", "model.preset=mnist-2conv", "--name", "longer")
    assert told.stdout == f"{OTHER_ID}\n"
    assert fake.bodies() == [{"set": {"name": "longer", "training.epochs": 10, "model.preset": "mnist-2conv"}}]
    assert "twice" in run("rerun", ID, "--set", "name=a", "--set", "name=b", code=1).stderr


def test_rerun_keeps_a_name_and_registers_only_when_asked_and_says_so(run: Run, fake: FakeApi) -> None:
    spec = {"kind": "train", "register_as": "digits"}
    fake.jobs = {ID: job_data(spec=spec)}
    told = run("rerun", ID)
    assert "not be registered; --register-as digits" in told.stderr
    assert "a new version of mine" in run("rerun", ID, "--register-as", "mine", "--keep-name").stderr
    assert fake.bodies() == [{"set": {}}, {"set": {"name": "digits nightly", "register_as": "mine"}}]
    assert "not both" in run("rerun", ID, "--name", "x", "--keep-name", code=1).stderr
    fake.jobs = {ID: job_data(spec={"kind": "evaluate"})}
    assert "registered" not in run("rerun", ID).stderr


def test_what_a_runner_used_is_listed_by_seconds(run: Run, fake: FakeApi) -> None:
    fake.jobs = {ID: job_data()}
    fake.collections["jobs/system"] = [
        {"attempt": 1, "at": f"2027-01-31T02:00:{10 * n:02}.000Z", "cpu_percent": 50.0 * n, "memory_bytes": 7,
            "gpu_percent": None, "gpu_memory_bytes": None}
        for n in range(3)
    ]  # fmt: skip
    told = run("metrics", ID, "--system", "--csv").stdout.splitlines()
    assert told[0] == "name,step,epoch,value,at"
    assert [line.rsplit(",", 1)[0] for line in told[1:4]] == [
        f"system/cpu_percent,{10 * n},1,{50.0 * n}" for n in range(3)
    ]
    assert len(told) == 7


def test_edit_sends_what_is_given_and_only_that(run: Run, fake: FakeApi) -> None:
    fake.jobs = {ID: job_data()}
    run(
        "edit",
        ID,
        "--name",
        "",
        "--notes",
        "-",
        "--tag",
        "a=b",
        "--untag",
        "old",
        "--priority",
        "7",
        input="two\nlines\n",
    )
    assert fake.requests[-1].method == "PATCH"
    assert fake.bodies() == [{"name": None, "notes": "two\nlines", "tags": {"old": None, "a": "b"}, "priority": 7}]
    assert "Nothing to change" in run("edit", ID, code=1).stderr


def test_jobs_are_searched_put_away_and_deleted(run: Run, fake: FakeApi) -> None:
    fake.jobs = {ID: job_data(state="succeeded"), OTHER_ID: job_data(OTHER_ID, state="running")}
    run("jobs", "-q", "lr < 0.1 is:archived")
    assert fake.requests[-1].url.params["q"] == "lr < 0.1 is:archived"
    assert run("archive", ID).stdout == f"{ID} archived\n"
    assert run("unarchive", ID).stdout == f"{ID} unarchived\n"
    run("delete", ID, code=1, input="n\n")
    assert ID in fake.jobs, "no means no"
    told = run("delete", OTHER_ID, ID, "--yes", code=1)
    assert (told.stdout, f"is needed by job {OTHER_ID}" in told.stderr) == (f"{ID} deleted\n", True)
    assert list(fake.jobs) == [OTHER_ID]


def test_show_says_which_job_it_runs_again(run: Run, fake: FakeApi) -> None:
    changes = [{"path": "training.learning_rate", "before": 0.001, "after": 0.003}]
    fake.jobs = {ID: job_data(copied_from={"id": OTHER_ID, "name": "first", "changes": changes})}
    assert f"{OTHER_ID} (first), with training.learning_rate 0.001 -> 0.003" in run("show", ID).stdout


def test_every_option_of_train_has_its_place(run: Run, fake: FakeApi) -> None:
    run(
        *[
            "submit",
            "train",
            "cnn",
            "--preset",
            "mnist-2conv",
            "--framework",
            "tensorflow",
            "--batch-size",
            "32",
            "--lr",
            "0.01",
            "--seed",
            "7",
        ],
        *[
            "--register-as",
            "best",
            "--dataset",
            "mnist",
            "--name",
            "nightly",
            "--priority",
            "9",
            "--device",
            "gpu",
            "--max-retries",
            "0",
        ],
        *["--timeout", "60", "--tag", "a=b", "--tag", "c=d=e", "--run-at", "2030-01-01T02:00:00Z"],
        *[
            "--set",
            "model.filters=[8,16]",
            "--set",
            "training.early_stopping.patience=2",
            "--set",
            "training.optimizer=sgd",
        ],
    )
    assert fake.bodies() == [
        {
            "kind": "train",
            "model": {"family": "cnn", "preset": "mnist-2conv", "framework": "tensorflow", "filters": [8, 16]},
            "training": {
                "batch_size": 32,
                "learning_rate": 0.01,
                "seed": 7,
                "early_stopping": {"patience": 2},
                "optimizer": "sgd",
            },
            "register_as": "best",
            "dataset": "mnist",
            "name": "nightly",
            "priority": 9,
            "resources": {"device": "gpu"},
            "max_retries": 0,
            "timeout_seconds": 60.0,
            "tags": {"a": "b", "c": "d=e"},
            "run_at": "2030-01-01T02:00:00Z",
        }
    ]


def test_the_other_kinds(run: Run, fake: FakeApi) -> None:
    run(*["submit", "finetune", "digits@3", "--dataset", "mnist", "--freeze", "features", "--epochs", "1"])
    run(
        *[
            "submit",
            "infer",
            "job:a1b2",
            "--dataset",
            "mnist",
            "--output",
            "jsonl",
            "--batch-size",
            "8",
            "--prompt",
            "x",
            "--framework",
            "torch",
            "--engine",
            "onnxruntime",
        ]
    )
    run(*["submit", "evaluate", "digits", "--dataset", "mnist"])
    run(*["submit", "infer", "digits", "--dataset", "mnist", "--batch-size", "auto", "--shards", "2"])
    assert fake.bodies() == [
        {"kind": "finetune", "model_ref": "digits@3", "dataset": "mnist", "freeze": "features",
            "training": {"epochs": 1}},
        {
            "kind": "batch_infer",
            "model_ref": "job:a1b2",
            "dataset": "mnist",
            "inference": {
                "output": "jsonl", "batch_size": 8, "prompts": ["x"], "framework": "torch", "engine": "onnxruntime",
            },
        },
        {"kind": "evaluate", "model_ref": "digits", "dataset": "mnist"},
        {"kind": "batch_infer", "model_ref": "digits", "dataset": "mnist",
            "inference": {"batch_size": "auto", "shards": 2}},
    ]  # fmt: skip


def test_after_takes_beginnings_of_ids(run: Run, fake: FakeApi) -> None:
    fake.jobs[OTHER_ID] = job_data(OTHER_ID)
    run(*["submit", "train", "cnn", "--dataset", "digits", "--after", "ffb2"])
    assert fake.bodies()[-1]["after"] == [OTHER_ID]


def test_a_job_from_a_file_or_stdin(run: Run, fake: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"kind": "train", "training": {"epochs": 1}}')
    run("submit", "-f", "job.json", "--set", "training.epochs=2", "--set", 'name="007"')
    run("submit", "-f", "-", input='{"kind": "evaluate"}')
    assert fake.bodies() == [{"kind": "train", "training": {"epochs": 2}, "name": "007"}, {"kind": "evaluate"}]


def test_submitting_with_json_prints_the_job(run: Run) -> None:
    assert json.loads(run("submit", "train", "cnn", "--dataset", "digits", "--json").stdout)["id"] == ID


def test_the_idempotency_key_is_passed_on(run: Run, fake: FakeApi) -> None:
    run(*["submit", "train", "cnn", "--dataset", "digits", "--idempotency-key", "once"])
    assert fake.requests[0].headers["idempotency-key"] == "once"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["train", "cnn", "--set", "epochs"], "write it as path=value"),
        (["train", "cnn", "--set", "a..b=1"], "write it as path=value"),
        (["train", "cnn", "--set", "model.family.x=1"], 'model.family is "cnn", which has no fields'),
        (["train", "cnn", "--tag", "x"], "write it as name=value"),
        (["-f", "gone.json"], "gone.json cannot be read: No such file"),
        (["-f", "."], "cannot be read"),
        (["-f", "bad.json"], "bad.json is not JSON"),
        (["-f", "list.json"], "is not a JSON object"),
        (["-f", "list.json", "train", "cnn"], "-f is used without a kind"),
        (["train", "cnn", "--after", "x"], "is not a job id"),
    ],
)
def test_what_cannot_be_sent_is_explained(run: Run, fake: FakeApi, tmp_path: Path, args: list[str], said: str) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    result = run("submit", *args, code=1)
    assert said in result.stderr
    assert result.stdout == ""
    assert fake.requests == []


def test_what_the_api_refuses_is_shown_with_its_field(run: Run, fake: FakeApi) -> None:
    errors = [{"loc": ["training", "batch_sise"], "msg": "unknown field; did you mean 'batch_size'?"}]
    fake.failures = [problem(422, "The spec is not valid.", errors)]
    result = run("submit", "train", "cnn", "--dataset", "digits", "--set", "training.batch_sise=1", code=1)
    assert "training.batch_sise: unknown field; did you mean 'batch_size'?" in result.stderr


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 2)])
def test_following_exits_with_the_outcome(run: Run, fake: FakeApi, state: str, code: int) -> None:
    error = {"type": "bad_data", "message": "the set is empty", "retryable": False} if state == "failed" else None
    fake.jobs[ID] = job_data(state=state, error=error)
    fake.events[ID] = [(1, "state", {"state": "running"}), (2, "state", {"state": state})]
    lines = run("submit", "train", "cnn", "--dataset", "digits", "--follow", code=code).stdout.splitlines()
    assert lines[0] == ID
    assert lines[1].startswith("running")
    assert lines[2].startswith(state)
    assert error is None or "bad_data: the set is empty" in lines[-1]


# -- reading --------------------------------------------------------------------------------------


def test_jobs_are_a_table_or_json(run: Run, fake: FakeApi) -> None:
    fake.jobs = {ID: job_data(state="running", progress={"percent": 41.7}), OTHER_ID: job_data(OTHER_ID, name=None)}
    header, first, second = run("jobs").stdout.splitlines()
    assert header.split()[:3] == ["ID", "STATE", "KIND"]
    assert first.startswith(ID)
    assert "42%" in first
    assert "cnn mnist-3conv" in second
    assert json.loads(run("jobs", "--json").stdout)["items"] == list(fake.jobs.values())


def test_no_jobs_is_said_on_stderr_only(run: Run) -> None:
    result = run("jobs")
    assert result.stdout == ""
    assert "No jobs" in result.stderr


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_tables_fit_the_terminal(run: Run, fake: FakeApi, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    fake.jobs = {ID: job_data(name="x" * 60), OTHER_ID: job_data(OTHER_ID, dataset="a-data-set-with-a-long-name")}
    lines = run("jobs").stdout.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= columns
    assert ID in lines[1]


DONE = {
    "state": "succeeded", "worker": "cpu0@host.example", "started_at": "2027-01-31T02:00:00.000Z",
    "finished_at": "2027-01-31T02:01:05.000Z", "result": {"metrics": {"loss": 0.1, "test_accuracy": 0.9876}},
    "dataset": "fashion_mnist",
}  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "kept"),
    [
        (60, ["ID", "STATE", "RESULT"]),
        (80, ["ID", "STATE", "NAME", "RESULT", "TIME", "AGE"]),
        (120, ["ID", "STATE", "NAME", "MODEL", "DONE", "RESULT", "WORKER", "TIME", "AGE"]),
        (200, ["ID", "STATE", "KIND", "NAME", "MODEL", "DATASET", "DONE", "RESULT", "WORKER", "TIME", "AGE"]),
    ],
)
def test_a_narrow_terminal_keeps_results(
    run: Run, fake: FakeApi, monkeypatch: pytest.MonkeyPatch, columns: int, kept: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    fake.jobs = {ID: job_data(**DONE, progress={"percent": 100.0})}
    head, row = run("jobs").stdout.splitlines()
    assert (head.split(), max(len(head), len(row)) <= columns) == (kept, True)
    assert "test_accuracy 0.9876" in row


def test_columns_are_chosen_and_all_are_shown_wide(run: Run, fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    fake.jobs = {ID: job_data(**DONE, tags={"team": "vision"})}
    wide = run("jobs", "-o", "wide").stdout
    assert all(title in wide.splitlines()[0].split() for title in ("KIND", "DATASET", "RESULT", "WORKER", "PRIORITY"))
    assert "team=vision" in wide
    chosen = run("jobs", "--columns", "id, result,training.epochs,test_accuracy,time,worker,dataset").stdout
    assert [line.split() for line in chosen.splitlines()] == [
        ["ID", "RESULT", "TRAINING.EPOCHS", "TEST_ACCURACY", "TIME", "WORKER", "DATASET"],
        [ID, "test_accuracy", "0.9876", "5", "0.9876", "1:05", "cpu0@host.example", "fashion_mnist"],
    ]
    assert json.loads(run("jobs", "-o", "json").stdout)["items"] == list(fake.jobs.values())
    for option in ("--columns", "--sort"):
        told = run("jobs", option, "colour", code=1).stderr
        assert f"{option}: there is no field 'colour'; there are id, state, kind, name," in told
    assert "table" in run("jobs", "-o", "tall", code=2).stderr
    fake.jobs = {}
    assert "No jobs" in run("jobs", "--columns", "id,colour").stderr


def test_jobs_are_sorted_before_the_first_of_them_are_shown(run: Run, fake: FakeApi) -> None:
    ids = [f"{number}" * 16 for number in range(4)]
    figures = [0.5, None, 0.9, 0.7]
    for job_id, figure in zip(ids, figures, strict=True):
        result = {"metrics": {} if figure is None else {"test_accuracy": figure}}
        fake.jobs[job_id] = job_data(job_id, name=f"job {job_id[0]}", result=result)

    def order(*options: str) -> str:
        return "".join(line[0] for line in run("jobs", *options).stdout.splitlines()[1:])

    assert order() == "0123"
    assert order("--sort", "test_accuracy") == "0321"
    assert order("--sort", "test_accuracy:desc") == "2301"
    assert order("--sort", "result:desc", "--limit", "2") == "23"
    assert order("--sort", "name:desc") == "3210"
    assert order("--sort", "training.epochs:asc") == "0123"
    assert "write :asc or :desc" in run("jobs", "--sort", "name:up", code=1).stderr
    told = json.loads(run("jobs", "--sort", "test_accuracy:desc", "--limit", "1", "--json").stdout)
    assert [job["id"] for job in told["items"]] == [ids[2]]


def test_models_keep_whole_metrics_of_the_test_part(run: Run, fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {f"val_{number}": 0.5 for number in range(9)} | {"test_accuracy": 0.9876, "test_loss": 0.0512}
    model = {"name": "digits", "latest_version": 3, "family": "cnn", "aliases": {}}
    fake.collections["models"] = [
        {**model, "champion": {"version": 2, "job_id": ID, "metrics": metrics}},
        {**model, "name": "other", "champion": None},
    ]
    for columns, shown in ((60, "test_accuracy 0.9876 …"), (80, "test_accuracy 0.9876  test_loss 0.0512 …")):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert run("models").stdout.splitlines()[1].endswith(shown)
    assert run("models", "--columns", "name,test_loss").stdout.splitlines()[1].split() == ["digits", "0.0512"]
    assert run("models", "--sort", "test_loss").stdout.splitlines()[1].startswith("digits")


def test_columns_and_fields_to_sort_by_are_completed() -> None:
    columns = tables._completer(FIELDS, ",", ())
    assert columns("id,da") == ["id,dataset"]
    assert columns("pri") == ["priority"]
    assert tables._completer(FIELDS, "", (":asc", ":desc"))("resu") == ["result", "result:asc", "result:desc"]


def test_show_tells_the_whole_story(run: Run, fake: FakeApi) -> None:
    fake.jobs[ID] = job_data(state="succeeded", result={"metrics": {"test_accuracy": 0.9876}, "model": "digits@1"})
    shown = run("show", ID[:4]).stdout
    assert "test_accuracy 0.9876" in shown
    assert "digits@1" in shown
    assert "preset mnist-3conv" in shown
    assert json.loads(run("show", ID, "--json").stdout) == fake.jobs[ID]


def test_logs_cannot_steer_the_terminal(run: Run, fake: FakeApi) -> None:
    fake.jobs[ID] = job_data()
    fake.collections["jobs/logs"] = [
        {"seq": 1, "at": "2027-01-31T02:00:01.250Z", "level": "stdout", "message": "hello\x1b[2J"}
    ]
    assert run("logs", ID).stdout == "02:00:01.250 stdout  hello\N{REPLACEMENT CHARACTER}[2J\n"


def test_logs_are_followed_to_the_end(run: Run, fake: FakeApi) -> None:
    fake.jobs[ID] = job_data(state="succeeded")
    fake.events[ID] = [
        (1, "log", {"level": "info", "message": "one", "at": "2027-01-31T02:00:00.000Z"}),
        (2, "metric", {"name": "loss", "step": 1, "epoch": 0, "value": 1.0}),
        (3, "log", {"level": "info", "message": "two", "at": "2027-01-31T02:00:00.000Z"}),
        (4, "state", {"state": "succeeded"}),
    ]
    assert [line.split()[-1] for line in run("logs", ID, "--follow").stdout.splitlines()] == ["one", "two"]


def test_metrics_in_overview_and_one_by_one(run: Run, fake: FakeApi) -> None:
    fake.jobs[ID] = job_data()
    fake.collections["jobs/metrics"] = [
        {"name": "loss", "step": step, "epoch": 0, "value": 1 / step, "at": "2027-01-31T02:00:00.000Z"}
        for step in (1, 2, 4)
    ]
    assert run("metrics", ID).stdout.splitlines()[1].split() == ["loss", "0.2500", "0.2500", "1.0000", "3", "█▃▁"]
    assert [line.split()[2] for line in run("metrics", ID, "--name", "loss").stdout.splitlines()] == [
        "VALUE", "1.0000", "0.5000", "0.2500",
    ]  # fmt: skip


def two_curves(fake: FakeApi) -> None:
    fake.jobs = {ID: job_data(name="one"), OTHER_ID: job_data(OTHER_ID, name="two")}
    fake.collections["jobs/metrics"] = [
        {"name": "loss", "step": step, "epoch": 0, "value": 100 / step, "at": "2027-01-31T02:00:00.000Z"}
        for step in range(1, 101)
    ]
    fake.page_size = 500


def test_curves_of_several_jobs_are_drawn_in_one_frame(run: Run, fake: FakeApi) -> None:
    two_curves(fake)
    lines = run("metrics", ID, OTHER_ID, "--plot").stdout.splitlines()
    assert lines[0] == "loss"
    assert lines[1].startswith("  100.0000 ┤")
    assert lines[14].startswith("    1.0000 ┤")
    assert lines[16].split() == ["1", "step", "100"]
    assert [line.split() for line in lines[17:]] == [
        ["●", ID[:8], "one", "last", "1.0000"], ["×", OTHER_ID[:8], "two", "last", "1.0000"],
    ]  # fmt: skip
    assert "log scale" in run("metrics", ID, "--plot", "--log", "--name", "loss").stdout


def test_metrics_of_several_jobs_are_told_apart(run: Run, fake: FakeApi) -> None:
    two_curves(fake)
    assert [line.split()[:2] for line in run("metrics", ID, OTHER_ID).stdout.splitlines()[1:]] == [
        ["loss", ID], ["loss", OTHER_ID],
    ]  # fmt: skip
    items = json.loads(run("metrics", ID, OTHER_ID, "--json").stdout)["items"]
    assert {item["job"] for item in items} == {ID, OTHER_ID}
    assert all("job" not in item for item in json.loads(run("metrics", ID, "--json").stdout)["items"])


def test_artifacts_are_listed_and_downloaded(run: Run, fake: FakeApi, tmp_path: Path) -> None:
    fake.jobs[ID], fake.files[ID] = job_data(), {"curves.png": b"png", "model/config.json": b"{}"}
    assert "model/config.json" in run("artifacts", ID).stdout
    run("artifacts", ID, "--download", "there")
    assert (tmp_path / "there" / "model" / "config.json").read_bytes() == b"{}"
    run("artifacts", ID, "--download", "one", "--name", "curves.png")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["curves.png"]


def test_watching_as_json_is_one_event_per_line(run: Run, fake: FakeApi) -> None:
    fake.jobs[ID] = job_data(state="cancelled")
    fake.events[ID] = [(1, "progress", {"step": 1}), (2, "state", {"state": "cancelled"})]
    lines = [json.loads(line) for line in run("watch", ID, "--json", code=2).stdout.splitlines()]
    assert [(line["job"], line["id"], line["type"]) for line in lines] == [(ID, 1, "progress"), (ID, 2, "state")]


# -- asking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["cancel", "finish", "pause", "resume"])
def test_asking_something_of_jobs(run: Run, fake: FakeApi, verb: str) -> None:
    fake.jobs = {ID: job_data(state="running"), OTHER_ID: job_data(OTHER_ID, state="running")}
    assert run(verb, ID[:4], OTHER_ID).stdout.splitlines()[0] == f"{ID} running ({verb} requested)"
    asked = [request.url.path for request in fake.requests if request.method == "POST"]
    assert asked == [f"/v1/jobs/{ID}/{verb}", f"/v1/jobs/{OTHER_ID}/{verb}"]


def test_a_conflict_is_explained(run: Run, fake: FakeApi) -> None:
    fake.jobs[ID] = job_data()
    fake.failures = [httpx.Response(200, json=job_data()), problem(409, "The job is succeeded.")]
    assert run("cancel", ID, code=1).stderr == "error: The job is succeeded.\n"


# -- what is there --------------------------------------------------------------------------------


def test_datasets_lists_and_its_commands_do_more(run: Run, fake: FakeApi, tmp_path: Path) -> None:
    digits: dict[str, Any] = {
        "name": "digits", "kind": "image", "version": 1, "builtin": True, "classes": ["0", "1"], "size_bytes": 123_456,
        "splits": {"train": {"count": 1437}, "test": {"count": 360}}, "sha256": "ab",
    }  # fmt: skip
    cifar = {"name": "cifar10", "builtin": True, "availability": "needs_download"}
    fake.collections["datasets"] = [digits, cifar]
    assert [line.split() for line in run("datasets").stdout.splitlines()[1:]] == [
        ["digits", "image", "1", "1,437", "360", "2", "123.5", "kB", "built", "in"],
        ["cifar10", "built", "in,", "needs", "download"],
    ]
    assert json.loads(run("datasets", "--json").stdout)["items"] == [digits, cifar]
    assert "count 1,437" in run("datasets", "show", "digits").stdout
    assert "There is no datasets 'gone'" in run("datasets", "show", "gone", code=1).stderr
    (tmp_path / "a.txt").write_text("x")
    assert run("datasets", "add", "mine", "a.txt").stdout == "mine@2\n"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"classes": []}, "plain text, without labels\n"),
        ({"classes": ["neg", "pos"]}, "documents of 2 classes: neg, pos\n"),
        ({"classes": [str(n) for n in range(9)]}, "documents of 9 classes: 0, 1, 2, 3, 4, 5, 6, 7, …\n"),
        ({"classes": [], "tags": ["B-LOC", "O"]}, "sentences with 2 tags: B-LOC, O\n"),
    ],
)
def test_adding_text_says_what_it_was_taken_for(
    run: Run, fake: FakeApi, tmp_path: Path, names: dict[str, Any], said: str
) -> None:
    (tmp_path / "a.txt").write_text("x")
    fake.added = {"kind": "text", **names}
    for verb in ("add", "append"):
        assert (run("datasets", verb, "mine", "a.txt").stdout, run("datasets", verb, "mine", "a.txt").stderr) == (
            "mine@2\n", said
        )  # fmt: skip


def test_devices_are_listed_and_steered(run: Run, fake: FakeApi) -> None:
    device = {
        "id": "GPU-1", "host": "a", "worker": "gpu0@a", "model": "A100", "memory_bytes": 80_000_000_000, "labels": [],
        "state": "online", "cordoned_at": None, "is_held": True, "holder": "gpu0@a", "job_id": None, "attempt": None,
        "held_since": "2026-11-01T00:00:00Z",
    }  # fmt: skip
    fake.collections["devices"] = [device]
    assert "another owner's job" in run("devices").stdout
    fake.added = {"items": [device | {"cordoned_at": "2026-11-01T00:00:00Z"}]}
    assert "online, cordoned" in run("devices", "drain", "gpu0@a").stdout
    fake.added = {"items": [device | {"state": "offline"}]}
    assert "offline" in run("devices", "forget", "a").stdout


def test_workers_models_and_families(run: Run, fake: FakeApi) -> None:
    fake.collections["workers"] = [
        {"name": "cpu0@host", "state": "online", "device": "cpu", "device_name": "CPU", "frameworks": ["torch"]}
    ]
    fake.collections["models"] = [
        {
            "name": "digits",
            "latest_version": 3,
            "family": "cnn",
            "champion": {"version": 2, "job_id": ID, "metrics": {"test_accuracy": 0.99}},
        }
    ]
    fake.collections["families"] = [
        {"name": "cnn", "package": "own 1", "frameworks": ["torch"], "promise": "exact", "presets": {"mnist-3conv": {}}}
    ]
    assert run("workers").stdout.splitlines()[1].split() == ["cpu0@host", "online", "CPU", "torch"]
    assert run("models").stdout.splitlines()[1].split() == ["digits", "@2", "@3", "cnn", "test_accuracy", "0.9900"]
    assert run("families").stdout.splitlines()[1].split() == ["cnn", "torch", "own", "1", "exact", "mnist-3conv"]


SUMMARY = {
    "family": "cnn", "framework": "torch", "preset": "small", "rows": "layers",
    "layers": [
        {"name": "conv0", "kind": "convolution 3x3, relu", "shape": [26, 26, 8], "parameters": 80, "fixed": 0},
        {"name": "output", "kind": "dense, softmax", "shape": [10], "parameters": 54_090, "fixed": 0},
    ],
    "parameters": 54_170, "fixed": 0, "bytes": 216_680,
    "facts": {"preprocessing": {"columns": ["a", "b"], "kind": "x"}, "classes": ["a"] * 10, "image": 8000},
    "dataset": "digits@1", "model": {}, "error": None,
}  # fmt: skip


def test_the_summary_of_a_model_is_a_table(run: Run, fake: FakeApi) -> None:
    fake.collections["summaries"] = [SUMMARY]
    shown = run(
        "families", "summary", "cnn", "--preset", "small", "--framework", "torch", "--dataset", "digits",
        "--set", "filters=[8,16]", "--set", "model.dropout=0.5", "--set", "output=softmax",
    ).stdout  # fmt: skip
    assert shown.splitlines() == [
        "cnn small (torch)",
        "",
        "layer   kind                   output shape  parameters",
        "------  ---------------------  ------------  ----------",
        "conv0   convolution 3x3, relu  26 x 26 x 8           80",
        "output  dense, softmax         10                54,090",
        "",
        "trained            54,170",
        "fixed                   0",
        "bytes in float32  216,680",
        "",
        "of data set digits@1: columns 2, kind x, classes 10, image 8,000",
    ]
    model = {"family": "cnn", "preset": "small", "framework": "torch", "filters": [8, 16], "dropout": 0.5}
    assert fake.bodies() == [{"model": {**model, "output": "softmax"}, "dataset": "digits"}]
    assert json.loads(run("families", "summary", "cnn", "--json").stdout) == SUMMARY
    assert fake.bodies()[-1] == {"model": {"family": "cnn"}}


def test_a_family_without_layers_is_said(run: Run, fake: FakeApi) -> None:
    fake.collections["summaries"] = [SUMMARY | {"layers": None, "parameters": None, "error": "cnn declares no layers"}]
    assert run("families", "summary", "cnn", code=1).stdout == "cnn declares no layers\n"
    assert "write it as path=value" in run("families", "summary", "cnn", "--set", "filters", code=1).stderr


# -- errors ---------------------------------------------------------------------------------------


def test_no_api_says_how_to_start_one(run: Run, fake: FakeApi) -> None:
    fake.failures = [httpx.ConnectError("Connection refused")] * 9
    assert "Start it with `nightshift up`" in run("jobs", code=1).stderr


def test_a_refused_key_says_where_it_was_looked_for(run: Run, fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIGHTSHIFT_API_KEY")
    fake.failures = [problem(401, "Send the header.")]
    said = run("jobs", code=1).stderr
    assert "NIGHTSHIFT_API_KEY is not set" in said
    assert "nightshift-data/api_key does not exist" in said


def test_a_mistyped_id_names_the_nearest(run: Run, fake: FakeApi) -> None:
    fake.jobs = {ID: job_data(), OTHER_ID: job_data(OTHER_ID)}
    assert f"Did you mean {ID}?" in run("show", "a1b2c4", code=1).stderr
    assert "`nightshift jobs` lists them" in run("show", "0000000000", code=1).stderr


def test_a_mistyped_name_names_the_nearest(run: Run, fake: FakeApi) -> None:
    fake.collections["models"] = [{"name": "digits", "latest_version": 1}, {"name": "writer", "latest_version": 1}]
    fake.failures = [problem(404, "There is no model 'digts'.")]
    assert "There is no model 'digts'. Did you mean digits?" in run("models", "show", "digts", code=1).stderr
    fake.failures = [problem(404, "There is no model 'zebra'.")]
    assert "There are: digits, writer." in run("models", "show", "zebra", code=1).stderr
    fake.failures = [problem(404, "There is no model version 'digts@3'.")]
    assert "Did you mean digits?" in run("models", "show", "digts", code=1).stderr
    fake.failures = [problem(404, "There is no schedule 'nightly'.")]
    assert "There are none yet." in run("schedules", "show", "nightly", code=1).stderr


def test_a_refused_key_says_how_to_get_one(run: Run, fake: FakeApi) -> None:
    fake.failures = [problem(401, "This key is unknown.")]
    assert "nightshift keys create" in run("jobs", code=1).stderr


def test_colours_go_when_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    from nightshift.cli.render import output

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def printed() -> str:
        monkeypatch.setattr(sys, "stdout", screen := Terminal())
        output.print_table([output.Column("STATE")], [[output.state_text("failed")]], "")
        return screen.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[31m" in printed()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in printed()


# -- completion -----------------------------------------------------------------------------------


@pytest.fixture
def complete(fake: FakeApi) -> Callable[..., list[str]]:
    """What a shell is offered for the last word."""

    def offered(*words: str) -> list[str]:
        line = " ".join(["nightshift", *words])
        environment = {"_NIGHTSHIFT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        result = invoke_cli(prog_name="nightshift", env=environment)
        return result.stdout.split()

    return offered


def test_the_shell_completes_what_the_api_has(fake: FakeApi, complete: Callable[..., list[str]]) -> None:
    fake.jobs = {ID: job_data(), OTHER_ID: job_data(OTHER_ID)}
    fake.collections = {
        "models": [{"name": "digits", "latest_version": 2, "family": "cnn"}],
        "datasets": [{"name": "digits", "kind": "image"}, {"name": "poems", "kind": "text"}],
        "schedules": [{"name": "nightly", "cron": "0 2 * * *"}],
        "families": [
            {"name": "gan", "presets": {"dense": {}, "dcgan": {}}, "model_schema": {"properties": {"latent": {}}}},
            {"name": "cnn", "presets": {"deep": {}}, "model_schema": {"properties": {"preset": {}, "layers": {}}}},
        ],
    }
    assert complete("show", "") == [ID, OTHER_ID]
    assert complete("cancel", ID, "ff") == [OTHER_ID]
    assert complete("models", "promote", "digits@") == ["digits@2", "digits@1"]
    assert complete("submit", "finetune", "d") == ["digits"]
    assert complete("submit", "train", "gan", "--dataset", "po") == ["poems"]
    assert complete("submit", "train", "gan", "--preset", "dc") == ["dcgan"]
    assert complete("families", "summary", "cnn", "--preset", "d") == ["deep"]
    assert complete("families", "summary", "gan", "--set", "") == ["latent="]
    assert complete("families", "summary", "cnn", "--set", "") == ["layers="]
    assert complete("schedules", "run", "n") == ["nightly"]
    assert complete("jobs", "--state", "qu") == ["queued"]


def test_completion_without_an_api_offers_nothing_and_says_nothing(
    fake: FakeApi, complete: Callable[..., list[str]]
) -> None:
    fake.failures = [httpx.ConnectError("refused")]
    assert complete("show", "a") == []


def test_global_options_go_before_the_environment(run: Run, fake: FakeApi) -> None:
    run("--url", "http://other.test", "--key", "other", "jobs")
    assert fake.requests[0].url.host == "other.test"
    assert fake.requests[0].headers["authorization"] == "Bearer other"


def test_a_folder_that_cannot_be_written_is_said(run: Run, fake: FakeApi, tmp_path: Path) -> None:
    fake.jobs[ID], fake.files[ID] = job_data(), {"curves.png": b"png"}
    (tmp_path / "file").write_text("")
    assert "file" in run("artifacts", ID, "--download", "file", code=1).stderr


@pytest.mark.parametrize(
    "args",
    [
        ["jobs", "--tag", "\udcff"],
        ["datasets", "show", "\udcff"],
        ["submit", "train", "cnn", "--idempotency-key", "ключ"],
        ["submit", "train", "cnn", "--idempotency-key", "a\nb"],
    ],
)
def test_arguments_that_cannot_be_sent_are_said(run: Run, fake: FakeApi, args: list[str]) -> None:
    assert run(*args, code=1).stderr.startswith("error: ")


# -- starting -------------------------------------------------------------------------------------


def test_the_command_line_starts_without_heavy_imports() -> None:
    """Help and completion answer at once only while these stay out."""
    heavy = "httpx rich pydantic sqlalchemy celery numpy asyncio"
    code = f"import sys, nightshift.cli.app; print([name for name in {heavy.split()} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").stdout.startswith("nightshift")


@pytest.mark.parametrize("module", ["nightshift", "nightshift.cli.app"])
def test_it_runs_as_a_module(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert "submit" in done.stdout
