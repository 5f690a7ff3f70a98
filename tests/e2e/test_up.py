"""The embedded stack as a user meets it: started, used, killed in its parts, stopped in the middle of a job, started
again."""

from __future__ import annotations

import json
import re
import shlex
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from nightshift.client.client import Job
from tests.support import warm
from tests.support.paths import ROOT
from tests.support.up import SERVER, Up, alive, eventually, has_checkpoint, nightshift, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: A job of some seconds may take so long on a machine that is busy with other things.
PATIENCE = 240.0

#: Some seconds of training with a checkpoint every few steps: long enough to be killed in the middle.
SPEC: dict[str, Any] = {
    "kind": "train",
    "model": {"family": "cnn", "preset": "mnist-2conv", "dropout": 0.1},
    "dataset": "digits",
    "training": {"epochs": 3, "batch_size": 16, "lr_schedule": "cosine", "precision": "float32"},
    "checkpoint": {"every_steps": 20},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("up") / "a folder", NIGHTSHIFT_LOG_FORMAT="json") as stack:
        yield stack


@pytest.fixture(scope="module")
def untouched(stack: Up) -> tuple[str, list[Any]]:
    """What SPEC leaves when nothing happens to it."""
    job = stack.client.submit(SPEC).wait(PATIENCE)
    assert job.state == "succeeded", job.error
    assert len(job.attempts()) == 1
    return outcome(job)


def outcome(job: Job) -> tuple[str, list[Any]]:
    """The hash of the weights, and every metric row (of speed only that it is there)."""
    (weights,) = [artifact for artifact in job.artifacts() if artifact.path == "model/model.safetensors"]
    rows = sorted(
        (point["name"], point["step"], None if point["name"] == "samples_per_second" else point["value"])
        for point in job.metrics()
    )
    return weights.data["sha256"], rows


def submitted(stack: Up, **training: Any) -> Job:
    """A job in the middle of its work."""
    job = stack.client.submit(SPEC | {"training": SPEC["training"] | training})
    eventually(lambda: has_checkpoint(job))
    return job


def test_every_part_answers_when_it_says_ready(stack: Up) -> None:
    assert stat.S_IMODE((stack.data_dir / "api_key").stat().st_mode) == 0o600
    assert httpx.get(f"{stack.api}/readyz", timeout=PATIENCE).status_code == 200
    with httpx.Client(base_url=stack.flower, timeout=PATIENCE, follow_redirects=True) as flower:
        assert flower.get("/", auth=("nightshift", api_key(stack))).status_code == 200
        assert flower.get("/").status_code == 401
    (worker,) = stack.client.workers()
    assert worker["state"] == "online"
    assert eventually(lambda: (stack.client.workers()[0]["usage"] or {}).get("loaded")) == ["torch"], "it follows"
    endpoints = json.loads((stack.data_dir / "endpoints.json").read_text())
    assert endpoints == {"api": stack.api, "flower": stack.flower, "data": stack.data, "pid": stack.process.pid}


def test_nothing_that_the_stack_wrote_is_for_other_users(stack: Up, untouched: tuple[str, list[Any]]) -> None:
    """Of every process, after a whole job."""
    written = [stack.data_dir, *stack.data_dir.rglob("*")]
    assert stack.data_dir / "nightshift.db-wal" in written
    assert [path for path in written if is_for_others(path)] == []


def is_for_others(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # a half-written file that has its name by now
        return False
    return not stat.S_ISLNK(mode) and bool(mode & 0o077)


@pytest.mark.parametrize("arguments", [[], ["--beat"]])
def test_health_checks_of_containers_say_well(stack: Up, arguments: list[str]) -> None:
    environment = stack.part("api.server").environ()
    health = partial(warm.run, "worker.hardware.health", *arguments, of=SERVER)
    # A ping may be late on a busy machine: a container's health check is repeated.
    eventually(lambda: health(environment=environment).returncode == 0)
    ill = health(environment=environment | {"NIGHTSHIFT_HOST_NAME": "elsewhere"})
    assert ill.returncode == 1
    assert "elsewhere" in ill.stderr or "beat does not answer" in ill.stderr


def test_a_second_stack_on_the_same_folder_is_refused(stack: Up) -> None:
    second = nightshift("up", "--data-dir", str(stack.data_dir), "--port", "0")
    assert second.returncode == 1
    assert second.stdout == ""
    assert f"in use by another `nightshift up` (process {stack.process.pid})" in second.stderr


def test_a_user_submits_and_follows(stack: Up) -> None:
    done = stack.cli("submit", "train", "cnn", "--dataset", "digits", "--epochs", "1", "--follow")
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout
    assert "test_accuracy" in done.stdout
    wrong = stack.cli("submit", "train", "cnn", "--dataset", "digits", "--epochs", "0")
    assert wrong.returncode == 1
    assert "training.epochs" in wrong.stderr


def test_a_killed_runner_is_replaced_and_the_result_is_the_same(stack: Up, untouched: tuple[str, list[Any]]) -> None:
    job = submitted(stack)
    stack.runner().kill()
    assert job.wait(PATIENCE).state == "succeeded", job.error
    assert [attempt["outcome"] for attempt in sorted(job.attempts(), key=lambda a: a["attempt"])] == [
        "crashed",
        "succeeded",
    ]
    assert outcome(job) == untouched


def test_a_killed_worker_is_replaced_and_the_result_is_the_same(stack: Up, untouched: tuple[str, list[Any]]) -> None:
    job = submitted(stack)
    runner, worker = stack.runner(), stack.part("worker.main")
    worker.kill()
    eventually(lambda: not alive(runner))
    assert job.wait(PATIENCE).state == "succeeded", job.error
    assert [attempt["outcome"] for attempt in sorted(job.attempts(), key=lambda a: a["attempt"])] == [
        "lost",
        "succeeded",
    ]
    assert outcome(job) == untouched


@pytest.mark.parametrize("module", ["api.server", "worker.beat", "api.flower.app"])
def test_any_other_part_that_is_killed_comes_back(stack: Up, module: str) -> None:
    before = stack.part(module)
    family = [before, *before.children(recursive=True)]
    before.kill()
    eventually(lambda: [part for part in stack.parts(module) if part != before])
    eventually(lambda: healthy(stack))
    eventually(lambda: not [process for process in family if alive(process)])


def healthy(stack: Up) -> bool:
    try:
        return all(httpx.get(url).status_code == 200 for url in (f"{stack.api}/readyz", f"{stack.flower}/healthcheck"))
    except httpx.TransportError:
        return False


def test_flowers_terminate_cancels_the_job_and_the_worker_lives(stack: Up) -> None:
    job = submitted(stack, epochs=500)  # it runs as long as Flower takes to say so
    worker = stack.part("worker.main")
    with httpx.Client(base_url=stack.flower, auth=("nightshift", api_key(stack)), timeout=PATIENCE) as flower:
        task = eventually(lambda: started_task(flower, job))
        assert flower.post(f"/api/task/revoke/{task}", params={"terminate": "true"}).status_code == 200
    assert job.wait(PATIENCE, check=False).state == "cancelled"
    assert stack.client.submit(SPEC | {"training": {"max_steps": 2}}).wait(PATIENCE).state == "succeeded"
    assert stack.part("worker.main") == worker


def started_task(flower: httpx.Client, job: Job) -> str | None:
    """The Celery task that Flower's table says is running this job."""
    query = {"draw": 1, "start": 0, "length": 100, "order[0][column]": 0, "columns[0][data]": "received"}
    rows = flower.get("/tasks/datatable", params=query).json()["data"]
    return next((row["uuid"] for row in rows if row["state"] == "STARTED" and f"{job.id[:8]} #1" in row["args"]), None)


def api_key(stack: Up) -> str:
    return (stack.data_dir / "api_key").read_text().strip()


def test_all_jobs_finish_though_redis_loses_everything(stack: Up) -> None:
    small = SPEC | {"training": {"max_steps": 2}}
    jobs = [stack.client.submit(small) for _ in range(3)]
    with redis.Redis.from_url(redis_url(stack)) as client:
        client.flushall()
    assert [job.wait(PATIENCE).state for job in jobs] == ["succeeded"] * 3


def redis_url(stack: Up) -> str:
    return str(stack.part("api.server").environ()["NIGHTSHIFT_REDIS_URL"])


def commands_of(page: Path) -> list[list[str]]:
    """Return the words of each command in a page's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_page(page: Path, stack: Up) -> str:
    """Run a page's commands in the current folder and return their output; the first that fails ends the test."""
    output = []
    for program, *arguments in commands_of(page):
        if program == "nightshift":
            done = stack.cli(*arguments)
        else:
            assert program == "python"
            done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (program, arguments, done.stdout, done.stderr)
        output.append(done.stdout)
    return "".join(output)


def test_the_example_of_nightly_retraining_does_what_its_page_says(
    stack: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/nightly.md, run as it stands there."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    told = run_page(ROOT / "docs" / "nightly.md", stack)
    assert re.findall(r"daily-digits@\d$", told, re.M)[:3] == [f"daily-digits@{n}" for n in (1, 2, 3)]
    said = re.findall(r"((?:not )?promoted: .*)", told)
    assert said[0] == "promoted: no champion yet"
    assert re.search(r"^promoted: .* better by ", said[1])
    assert re.search(r"^not promoted: .* worse by ", said[2])
    changes = stack.client.model_history("daily-digits")
    assert (changes[0]["change"], changes[0]["why"]) == ("rollback", "complaints about sevens")
    assert changes[0]["to_version"] == changes[1]["from_version"]
    outcomes = [tick["outcome"] for tick in stack.client.schedule_history("nightly")]
    assert outcomes == ["submitted"] * 4
    assert [item["version"] for item in stack.client.dataset("daily-digits")["versions"]] == [1, 2, 4]


def test_a_stopped_stack_goes_on_where_it_was(stack: Up, untouched: tuple[str, list[Any]]) -> None:
    """SIGTERM in the middle of a job, `up` again on the same folder; then kill -9 of the launcher, which takes all
    along."""
    job = submitted(stack)
    processes = stack.everything()
    assert stack.stop() == 0
    every_line_is_json(stack)
    eventually(lambda: not [process for process in processes if alive(process)])
    assert not (stack.data_dir / "endpoints.json").exists()
    with up(stack.data_dir) as again:
        same = again.client.job(job.id).wait(PATIENCE)
        outcomes = [attempt["outcome"] for attempt in sorted(same.attempts(), key=lambda a: a["attempt"])]
        assert (same.state, outcomes) == ("succeeded", ["drained", "succeeded"])
        assert outcome(same) == untouched
        processes = again.everything()
        again.kill()
        eventually(lambda: not [process for process in processes if alive(process)])


def every_line_is_json(stack: Up) -> None:
    """Check that all processes log JSON only, also lines that a library or Redis wrote."""
    told = {log.stem: lines(log.read_text()) for log in (stack.data_dir / "logs").glob("*.log")}
    told["up"] = lines(stack.stderr)
    assert set(told) == {"up", "redis", "api", "worker-cpu0", "beat", "flower"}
    for part, said in told.items():
        assert {line["process"] for line in said} == {part.removesuffix("-cpu0")}
        assert all(line["level"] in LEVELS and line["at"].endswith("Z") and line["event"] for line in said)
    assert any("flower ended (SIGKILL)" in line["event"] for line in told["up"])
    assert "bye" in told["redis"][-1]["event"]
    assert any(line["event"] == "worker: Warm shutdown (MainProcess)" for line in told["worker-cpu0"])
    about = [line for line in told["worker-cpu0"] if line["event"].startswith(("attempt.", "runner.", "job."))]
    assert len(about) > 5
    assert all(line["job_id"] and line["attempt"] for line in about)


LEVELS = {"debug", "info", "warning", "error", "critical"}


def lines(text: str) -> list[dict[str, Any]]:
    assert text, "it said nothing"
    return [json.loads(line) for line in text.splitlines()]


def test_a_taken_port_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = nightshift("up", "--data-dir", str(tmp_path / "d"), "--port", str(taken.getsockname()[1]))
    assert refused.returncode == 1
    assert "--port 0 picks a free one" in refused.stderr
