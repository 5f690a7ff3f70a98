"""The command line and the SDK against the real API on a real port."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import Result

from nightshift.client.async_client import AsyncClient
from nightshift.client.client import Client
from nightshift.client.types import Event
from nightshift.errors import Conflict, InvalidRequest, NotFound
from nightshift.states import JobState
from shared.db.engine import write
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import ArtifactRecord, Ending, Lease, ModelVersionRecord
from shared.jobs.transitions.values import LogRow, MetricRow
from tests.support.cli import invoke as invoke_cli
from tests.support.factories import claim_job, commit_checkpoint, job_in_state, running_job, submit_job
from tests.support.served import CuttingProxy, ServedApi, served_api
from tests.support.stack import CAP

Run = Callable[..., Result]
SUBMIT = ["submit", "train", "cnn", "--dataset", "digits", "--epochs", "2"]


@pytest.fixture
def served(sqlite_engine: Engine, tmp_path: Path) -> Iterator[ServedApi]:
    with served_api(sqlite_engine, tmp_path) as served:
        yield served


@pytest.fixture
def client(served: ServedApi) -> Iterator[Client]:
    with Client(served.url, served.key) as client:
        yield client


@pytest.fixture
def run(served: ServedApi, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    for name, value in {"API_URL": served.url, "API_KEY": served.key, "DATABASE_URL": sqlite_url}.items():
        monkeypatch.setenv(f"NIGHTSHIFT_{name}", value)

    def invoke(*args: str, code: int = 0) -> Result:
        result = invoke_cli(*args)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return invoke


def record(engine: Engine, lease: Lease, step: int, total: int = 40) -> None:
    progress = {"step": step, "total_steps": total, "epoch": step // 20, "percent": 100 * step / total}
    with write(engine) as conn:
        transitions.record(
            conn,
            lease,
            progress=progress,
            metrics=[MetricRow("loss", step, step // 20, 1 / (step + 1))],
            logs=[LogRow("info", f"step {step} — ☾")],
        )


def succeed(engine: Engine, lease: Lease, artifacts: list[ArtifactRecord] | None = None) -> None:
    with write(engine) as conn:
        assert transitions.succeed(
            conn, lease, result={"metrics": {"test_accuracy": 0.98}}, artifacts=artifacts or [], register=None
        )


# -- the life of a job, as a user types it --------------------------------------------------------


def test_submit_look_and_cancel(run: Run) -> None:
    job_id = run(*SUBMIT, "--name", "mine", "--tag", "a=b").stdout.strip()
    assert len(job_id) == 16
    assert run("jobs", "--state", "queued", "--tag", "a=b").stdout.splitlines()[1].startswith(f"{job_id}  queued")
    assert json.loads(run("jobs", "--state", "running", "--json").stdout)["items"] == []
    assert json.loads(run("show", job_id[:6], "--json").stdout)["spec"]["training"]["epochs"] == 2
    assert run("cancel", job_id[:6]).stdout == f"{job_id} cancelled\n"
    assert "error:" in run("cancel", job_id[:6], code=1).stderr
    assert run("watch", job_id, code=2).stdout.splitlines()[-1].startswith("cancelled")


def test_pause_and_resume(run: Run) -> None:
    job_id = run(*SUBMIT).stdout.strip()
    assert run("pause", job_id).stdout == f"{job_id} paused\n"
    assert run("resume", job_id).stdout == f"{job_id} queued\n"


def test_a_running_job_is_asked(run: Run, served: ServedApi) -> None:
    lease = running_job(served.engine)
    assert run("finish", lease.job_id).stdout == f"{lease.job_id} running (finish requested)\n"
    assert "running (finish)" in run("jobs").stdout


def test_wrong_settings_are_named_with_the_way_out(run: Run) -> None:
    said = run(*SUBMIT, "--set", "training.batch_sise=3", "--set", "training.seed=1.5", code=1).stderr
    assert "training.batch_sise: unknown field; did you mean 'batch_size'?" in said
    assert "training.seed: " in said


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", '"\\ud800"', '"\\u0000"', "[" * 100 + "]" * 100])
def test_values_no_field_takes_are_refused_by_name(run: Run, value: str) -> None:
    said = run(*SUBMIT, "--set", f"training.learning_rate={value}", code=1).stderr
    assert said.startswith("error: ")
    assert "training.learning_rate" in said or "nested" in said


def test_the_same_key_twice_is_one_job(run: Run) -> None:
    twice = [run(*SUBMIT, "--idempotency-key", "k").stdout for _ in range(2)]
    assert twice[0] == twice[1]
    assert "error:" in run(*SUBMIT, "--idempotency-key", "k", "--name", "other", code=1).stderr


def test_every_read_works_on_every_state(run: Run, served: ServedApi) -> None:
    ids = [job_in_state(served.engine, state) for state in JobState]
    for job_id in ids:
        for read in ("show", "logs", "metrics", "artifacts", "attempts", "checkpoints", "why"):
            run(read, job_id)
            json.loads(run(read, job_id, "--json").stdout)
    table = run("jobs").stdout
    assert all(job_id in table for job_id in ids)
    for read in ("workers", "datasets", "models", "families"):
        run(read)
        json.loads(run(read, "--json").stdout)
    assert "mnist-3conv" in run("families").stdout
    assert run("datasets", "show", "digits").stdout.startswith("name")


def test_show_has_the_evidence_of_a_crash(run: Run, served: ServedApi) -> None:
    lease = running_job(served.engine)
    evidence = {"phase": "train", "step": 7, "last_frames": [], "log_tail": ["stderr: Segmentation fault"]}
    error = {"type": "crashed", "message": "killed", "retryable": True}
    with write(served.engine) as conn:
        ending = Ending(None, 11, 5_000_000, 7_000_000, evidence)
        transitions.fail(conn, lease, outcome=AttemptOutcome.CRASHED, error=error, ending=ending)
    shown = run("show", lease.job_id).stdout
    for words in ("evidence of attempt 1", "crashed", "phase train", "step 7", "stderr: Segmentation fault"):
        assert words in shown
    assert json.loads(run("attempts", lease.job_id, "--json").stdout)["items"][0]["evidence"] == evidence


def test_an_unknown_job_id_is_an_error_that_names_it(run: Run) -> None:
    said = run("show", "0123456789abcdef", code=1).stderr
    assert said == "error: There is no job '0123456789abcdef'. `nightshift jobs` lists them.\n"


def test_watching_until_it_succeeds(run: Run, served: ServedApi) -> None:
    lease = running_job(served.engine)

    def work() -> None:
        for step in range(0, 41, 10):
            record(served.engine, lease, step)
        succeed(served.engine, lease)

    worker = threading.Timer(0.3, work)
    worker.start()
    lines = run("watch", lease.job_id).stdout.splitlines()
    worker.join()
    assert lines[-1] == "succeeded  test_accuracy 0.9800"
    assert any("step 40/40" in line for line in lines)


def test_a_failure_is_shown_and_exits_with_one(run: Run, served: ServedApi) -> None:
    lease = running_job(served.engine)
    error = {"type": "bad_data", "message": "row 7 is ragged", "retryable": False}
    with write(served.engine) as conn:
        transitions.fail(conn, lease, outcome=AttemptOutcome.JOB_ERROR, error=error)
    assert run("watch", lease.job_id[:8], code=1).stdout.splitlines()[-1] == "failed     bad_data: row 7 is ragged"
    assert "row 7 is ragged" in run("show", lease.job_id).stdout
    assert "job_error" in run("attempts", lease.job_id).stdout


# -- data sets and models -------------------------------------------------------------------------


def test_a_folder_becomes_a_data_set_and_its_next_version(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8), (number, len(name), ord(name[0]))).save(tmp_path / "pets" / name / f"{number}.png")
    assert run("datasets", "add", "pets", "pets").stdout == "pets@1\n"
    assert "pets  image  1" in " ".join(run("datasets").stdout.split()).replace(" ", "  ")
    shown = run("datasets", "show", "pets", "--sample", "look.png").stdout
    assert "cats, dogs" in shown
    assert any(line.startswith("cats") and line.endswith("█" * 30) for line in shown.splitlines())
    assert Image.open(tmp_path / "look.png").format == "PNG"
    Image.new("RGB", (8, 8), "white").save(tmp_path / "pets" / "cats" / "more.png")
    assert run("datasets", "add", "pets", "pets").stdout == "pets@2\n"


def test_sentences_with_tags_are_added_and_shown_with_counts(run: Run, tmp_path: Path) -> None:
    (tmp_path / "news.iob").write_text("Ada\tB-PER\nmet\tO\nEU\tB-ORG\n\n" * 10)
    added = run("datasets", "add", "news", "news.iob")
    assert (added.stdout, added.stderr) == ("news@1\n", "sentences with 3 tags: B-ORG, B-PER, O\n")
    shown = [line.split() for line in run("datasets", "show", "news", "--sample", "look.txt").stdout.splitlines()]
    assert ["TAG", "TRAIN", "TEST"] in shown
    assert ["O", "8", "2", "█" * 30] in shown
    assert (tmp_path / "look.txt").read_text().startswith("Ada\tB-PER\nmet\tO\nEU\tB-ORG\n\n---")


def test_a_table_and_files_are_added_and_looked_at(run: Run, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("name,age\nAda,36\nAda,\nBea,41.5\n")
    assert run("datasets", "add", "people", "people.csv", "--kind", "table").stdout == "people@1\n"
    shown = [line.split() for line in run("datasets", "show", "people", "--sample", "look.csv").stdout.splitlines()]
    assert ["name", "string", "0", "2", "Ada", "(2),", "Bea", "(1)"] in shown
    assert ["age", "double", "1", "2", "36", "41.5", "38.75"] in shown
    assert (tmp_path / "look.csv").read_text() == "name,age\nAda,36.0\nAda,\nBea,41.5\n"
    assert ["missing", "values", "1", "in", "age"] in shown
    assert ["duplicate", "rows", "0", "of", "3"] in shown
    cells = [f"{n},x" for n in range(30)] + ["?,x", "?,x"]
    (tmp_path / "dirty.csv").write_text("age,same\n" + "\n".join(cells) + "\n")
    run("datasets", "add", "dirty", "dirty.csv", "--kind", "table")
    said = " ".join(run("datasets", "show", "dirty").stdout.split())
    assert "duplicate rows 1 of 32 constant columns same" in said
    assert "nearly numbers age is text: line 32 has '?' (2 of 32 are no numbers)" not in said  # 94 % are numbers
    (tmp_path / "dirty.csv").write_text("age,same\n" + "\n".join(cells[:31]) + "\n")
    run("datasets", "add", "dirty", "dirty.csv")
    said = " ".join(run("datasets", "show", "dirty").stdout.split())
    assert "nearly numbers age is text: line 32 has '?' (1 of 31 are no numbers)" in said
    (tmp_path / "corpus" / ".hidden").mkdir(parents=True)
    (tmp_path / "corpus" / ".hidden" / "x").write_text("xyz")
    assert run("datasets", "add", "corpus", "corpus", "--kind", "files").stdout == "corpus@1\n"
    shown = [line.split() for line in run("datasets", "show", "corpus").stdout.splitlines()]
    assert [".hidden/x", "3", "B"] in shown
    listed = [line.split() for line in run("datasets").stdout.splitlines()]
    assert [line[:4] for line in listed if line[0] in ("people", "corpus")] == [
        ["corpus", "files", "1", "1"],
        ["people", "table", "1", "3"],
    ]


def test_a_bad_file_is_refused_with_its_reason(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("text,label\nonly one column\n")
    said = run("datasets", "add", "bad", "bad.csv", code=1).stderr
    assert said.startswith("error: ")
    assert "2" in said  # the line
    assert "bad" not in run("datasets").stdout


def test_registered_models_are_listed_by_champion(run: Run, served: ServedApi) -> None:
    lease = running_job(served.engine)
    model = ModelVersionRecord(name="digits", family="cnn", framework="torch", metrics={"test_accuracy": 0.98})
    with write(served.engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[], register=model)
    row = run("models").stdout.splitlines()[1].split()
    assert row == ["digits", "@1", "@1", "cnn", "test_accuracy", "0.9800"]
    assert run("models", "--columns", "name,owner").stdout.splitlines()[1].split() == ["digits", "you"]
    assert "champion" in run("models", "show", "digits").stdout


# -- following across faults ----------------------------------------------------------------------


def told(events: list[Event]) -> list[tuple[int, str]]:
    """What must be the same for everyone; of `progress` only the latest is kept by the server."""
    return [(event.id, event.type) for event in events if event.type != "progress"]


def test_a_stream_that_is_cut_again_and_again_misses_nothing(served: ServedApi, client: Client) -> None:
    lease = running_job(served.engine)
    proxy = CuttingProxy(served.port, limit=3_000)
    with Client(proxy.url, served.key) as behind:
        received: list[Event] = []
        listener = threading.Thread(target=lambda: received.extend(behind.job(lease.job_id).events()))
        listener.start()
        for step in range(120):
            record(served.engine, lease, step, 120)
        commit_checkpoint(served.engine, lease, step=119)
        succeed(served.engine, lease)
        listener.join(CAP)
    proxy.close()
    assert proxy.cuts > 5
    assert told(received) == told(list(client.job(lease.job_id).events()))
    assert [event.data["step"] for event in received if event.type == "metric"] == list(range(120))
    assert sum(event.type == "log" for event in received) == 120


def test_a_restart_of_the_api_is_not_noticed(served: ServedApi, client: Client) -> None:
    lease = running_job(served.engine)
    received: list[Event] = []
    first = threading.Event()

    def listen() -> None:
        for event in client.job(lease.job_id).events():
            received.append(event)
            first.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert first.wait(CAP)
    served.stop()
    for step in range(5):
        record(served.engine, lease, step)
    served.start()
    succeed(served.engine, lease)
    listener.join(CAP)
    assert [event.data["step"] for event in received if event.type == "metric"] == list(range(5))
    assert received[-1].data["state"] == "succeeded"


def test_waiting_outlives_a_restart_of_the_api(served: ServedApi, client: Client) -> None:
    lease = running_job(served.engine)
    ended: list[JobState] = []
    waiter = threading.Thread(target=lambda: ended.append(client.job(lease.job_id).wait(timeout=CAP).state))
    waiter.start()
    record(served.engine, lease, 1)
    served.stop()
    succeed(served.engine, lease)
    served.start()
    waiter.join(CAP)
    assert ended == [JobState.SUCCEEDED]


def test_waiting_gives_up_when_it_is_time(served: ServedApi, client: Client) -> None:
    job = client.job(running_job(served.engine).job_id)
    with pytest.raises(TimeoutError, match="not final after"):
        job.wait(timeout=0.3)


def test_jobs_are_awaited_together(served: ServedApi) -> None:
    leases = [running_job(served.engine) for _ in range(3)]

    async def story() -> list[JobState]:
        async with AsyncClient(served.url, served.key) as client:
            jobs = [await client.job(lease.job_id) for lease in leases]
            waits = [asyncio.create_task(job.wait(timeout=CAP)) for job in jobs]
            for lease in leases:
                await asyncio.to_thread(succeed, served.engine, lease)
            return [job.state for job in await asyncio.gather(*waits)]

    assert asyncio.run(story()) == [JobState.SUCCEEDED] * 3


def test_following_logs(run: Run, served: ServedApi) -> None:
    lease = running_job(served.engine)
    worker = threading.Timer(0.2, lambda: (record(served.engine, lease, 1), succeed(served.engine, lease)))
    worker.start()
    assert "info    step 1 — ☾" in run("logs", lease.job_id, "--follow").stdout
    worker.join()


# -- the SDK --------------------------------------------------------------------------------------


def test_the_sdk_from_submission_to_artifact(served: ServedApi, client: Client) -> None:
    job = client.submit({"kind": "train", "model": {"family": "cnn"}, "dataset": "digits"})
    lease = claim_job(served.engine).lease
    record(served.engine, lease, 10)
    stored = served.settings.storage_root / "x" / "config.json"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"{}")
    sha256 = hashlib.sha256(b"{}").hexdigest()
    succeed(served.engine, lease, [ArtifactRecord("model/config.json", "x/config.json", sha256, 2, "application/json")])
    assert job.wait(timeout=CAP).state is JobState.SUCCEEDED
    assert job.result is not None
    assert job.result["metrics"] == {"test_accuracy": 0.98}
    assert job.artifact("model/config.json") == b"{}"
    assert [(point["name"], point["step"]) for point in job.metrics("loss")] == [("loss", 10)]
    assert [attempt["outcome"] for attempt in job.attempts()] == ["succeeded"]
    assert [line["message"] for line in job.logs()] == ["step 10 — ☾"]


def test_errors_are_typed(served: ServedApi, client: Client) -> None:
    with pytest.raises(InvalidRequest) as invalid:
        client.submit({"kind": "train", "model": {"family": "cnn"}, "dataset": "digits", "training": {"epochs": 0}})
    assert [error.loc for error in invalid.value.errors] == [("training", "epochs")]
    with pytest.raises(NotFound):
        client.job("0123456789abcdef")
    job_id = job_in_state(served.engine, JobState.SUCCEEDED)
    with pytest.raises(Conflict):
        client.job(job_id).cancel()


def test_pages_reach_the_oldest_job(served: ServedApi, client: Client) -> None:
    ids = [submit_job(served.engine).job_id for _ in range(120)]
    assert [job.id for job in client.jobs()] == ids[::-1]
    assert [job.id for job in client.jobs(limit=110)] == ids[:9:-1]


def test_a_stop_asked_for_is_seen_while_watching(served: ServedApi, client: Client) -> None:
    lease = running_job(served.engine)
    client.job(lease.job_id).cancel()
    with write(served.engine) as conn:
        transitions.stop(conn, lease, outcome=AttemptOutcome.CANCELLED)
    events = list(client.job(lease.job_id).events())
    assert any(event.data.get("stop_requested") == StopRequest.CANCEL for event in events)
    assert events[-1].data["state"] == "cancelled"


# -- keys and check -------------------------------------------------------------------------------


def test_keys_are_made_used_and_revoked(run: Run, served: ServedApi) -> None:
    made = json.loads(run("keys", "create", "ci", "--json").stdout)
    assert run("--key", made["key"], "jobs", "--json").stdout.startswith("{")
    assert made["id"] in run("keys", "list").stdout
    assert made["key"] not in run("keys", "list", "--json").stdout
    run("keys", "revoke", made["id"])
    assert "given as an argument" in run("--key", made["key"], "jobs", code=1).stderr
    assert run("keys", "revoke", "0000", code=1).stderr == "error: There is no key '0000'.\n"


def test_a_key_of_the_same_owner_sees_the_same_jobs(run: Run, served: ServedApi) -> None:
    job_id = run(*SUBMIT).stdout.strip()
    owner = json.loads(run("keys", "list", "--json").stdout)["items"][0]["owner_id"]
    second = run("keys", "create", "second", "--owner", owner).stdout.strip()
    assert run("--key", second, "show", job_id).stdout.startswith("id")
    stranger = run("keys", "create", "stranger").stdout.strip()
    assert "There is no job" in run("--key", stranger, "show", job_id, code=1).stderr


def test_check_finds_all_well(run: Run, served: ServedApi, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_REDIS_URL", redis_url)
    monkeypatch.setenv("NIGHTSHIFT_STORAGE_URL", f"file://{Path.cwd()}")
    found = {item["part"]: item["level"] for item in json.loads(run("check", "--json").stdout)["items"]}
    assert {part: found[part] for part in ("settings", "database", "migrations", "broker", "api")} == dict.fromkeys(
        ("settings", "database", "migrations", "broker", "api"), "ok"
    )


# -- batches --------------------------------------------------------------------------------------

DIGITS = {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits"}
MISSING = {**DIGITS, "dataset": "no-such-data"}


def test_a_batch_is_submitted_all_or_none_or_each_by_itself(client: Client, served: ServedApi) -> None:
    items = client.submit_batch([DIGITS, {**DIGITS, "name": "second"}], "sweep")
    assert [item["name"] for item in items] == [None, "second"]
    assert [client.job(str(item["id"])).state for item in items] == ["queued"] * 2
    again = client.submit_batch([DIGITS, {**DIGITS, "name": "second"}], "sweep")
    assert [(item["id"], item["created"]) for item in again] == [(item["id"], False) for item in items]
    with pytest.raises(InvalidRequest) as refused:
        client.submit_batch([DIGITS, MISSING])
    assert refused.value.errors[0].loc == ("jobs", 1, "dataset")

    async def each() -> list[str | None]:
        async with AsyncClient(served.url, served.key) as asynchronous:
            return [item["id"] for item in await asynchronous.submit_batch(iter([MISSING, DIGITS]), each=True)]

    missing, submitted = asyncio.run(each())
    assert missing is None
    assert len(list(client.jobs())) == 3
    assert submitted in {job.id for job in client.jobs()}


def test_a_batch_from_a_file(run: Run, client: Client, tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_text(json.dumps([DIGITS, DIGITS]))
    (tmp_path / "jobs.jsonl").write_text(f"{json.dumps(DIGITS)}\n\n{json.dumps(MISSING)}\n")
    ids = run("submit", "batch", "jobs.json").stdout.split()
    assert {job.id for job in client.jobs()} == set(ids)
    assert len(ids) == 2
    refused = run("submit", "batch", "jobs.jsonl", "--each", code=1)
    assert len(refused.stdout.split()) == 1
    assert "job 1 (counted from 0) was refused: dataset: There is no data set" in refused.stderr
    assert len(list(client.jobs())) == 3
    shown = json.loads(run("submit", "batch", "jobs.json", "--json").stdout)
    assert [item["created"] for item in shown] == [True, True]
    (tmp_path / "broken.jsonl").write_text('{"kind": "train"}\n[\n')
    assert "broken.jsonl, line 2, is not JSON" in run("submit", "batch", "broken.jsonl", code=1).stderr
    (tmp_path / "numbers.json").write_text("[1]")
    assert "each job must be a JSON object" in run("submit", "batch", "numbers.json", code=1).stderr
