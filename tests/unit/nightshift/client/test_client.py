"""The SDK: errors that can be acted on, retries that are safe, pages, downloads that are whole."""

from __future__ import annotations

import io
import shutil
import sys
import types
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from nightshift import Client, DamagedDownload, Job, JobCancelled, JobFailed
from nightshift.client import transport, uploads
from nightshift.client.event_stream import Deadline, StreamDropped
from nightshift.client.retry import ApiUnreachable, ServerError
from nightshift.client.types import MetricPoint, MetricTable
from nightshift.errors import (
    Conflict,
    FieldError,
    InvalidRequest,
    MalformedRequest,
    NightshiftError,
    NotFound,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from tests.support.fake_api import ID, OTHER_ID, FakeApi, job_data, problem


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    monkeypatch.setattr(transport.time, "sleep", lambda seconds: None)
    return FakeApi()


@pytest.fixture
def client(fake: FakeApi) -> Client:
    return Client("http://api.test", "key", transport=fake.transport)


TRAIN = {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits"}


def test_a_job_is_submitted_as_a_spec_or_by_keyword(client: Client, fake: FakeApi) -> None:
    client.submit(TRAIN)
    client.submit(**TRAIN)
    client.submit({**TRAIN, "dataset": "mnist"}, dataset="digits")
    assert fake.bodies() == [TRAIN] * 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, MalformedRequest),
        (401, Unauthorized),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (415, UnsupportedMedia),
        (422, InvalidRequest),
        (500, ServerError),
        (418, ServerError),
    ],
)
def test_problems_become_typed_errors(fake: FakeApi, client: Client, status: int, kind: type[NightshiftError]) -> None:
    fake.failures = [problem(status, "What went wrong.")]
    with pytest.raises(kind, match=r"What went wrong\."):
        client.submit({"kind": "train"})


def test_field_errors_are_carried(fake: FakeApi, client: Client) -> None:
    fake.failures = [problem(422, "No.", [{"loc": ["training", "epochs"], "msg": "must be at least 1"}])]
    with pytest.raises(InvalidRequest) as caught:
        client.submit({})
    assert caught.value.errors == (FieldError(("training", "epochs"), "must be at least 1"),)


def test_a_refused_key_says_where_it_came_from(fake: FakeApi, client: Client) -> None:
    fake.failures = [problem(401, "This key is unknown.")]
    with pytest.raises(Unauthorized, match="given as an argument"):
        client.workers()


def test_a_key_with_odd_characters_is_refused_before_it_is_sent(fake: FakeApi) -> None:
    with pytest.raises(Unauthorized, match="characters"):
        Client("http://api.test", "schlüssel\n", transport=fake.transport)


@pytest.mark.parametrize("url", ["api.test", "ftp://api.test", "http://[::1", "http://api.test:99999"])
def test_an_address_that_is_none_is_said(url: str) -> None:
    with pytest.raises(ApiUnreachable, match=r"NIGHTSHIFT_API_URL|not a URL"), Client(url, "key", retries=0) as client:
        client.workers()


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(404, text="nginx")])
def test_something_that_is_not_our_api_is_said(fake: FakeApi, client: Client, answer: httpx.Response) -> None:
    fake.failures = [answer]
    with pytest.raises(ServerError, match="is it a Nightshift API"):
        client.workers()


def test_a_submission_is_repeated_with_the_same_key(fake: FakeApi, client: Client) -> None:
    fake.failures = [httpx.ReadTimeout("slow"), httpx.ConnectError("refused"), problem(503, "starting")]
    assert client.submit({"kind": "train"}).id == ID
    keys = {request.headers["idempotency-key"] for request in fake.requests}
    assert len(fake.requests) == 4
    assert len(keys) == 1


def test_each_submission_has_a_key_of_its_own(fake: FakeApi, client: Client) -> None:
    client.submit({})
    client.submit({})
    assert len({request.headers["idempotency-key"] for request in fake.requests}) == 2


def test_a_request_that_may_have_arrived_is_not_repeated_unless_that_is_safe(fake: FakeApi, client: Client) -> None:
    fake.jobs[ID] = job_data()
    job = client.job(ID)
    fake.failures = [httpx.ConnectError("refused")]
    assert job.cancel().data["stop_requested"] == "cancel"
    fake.failures = [httpx.ReadTimeout("slow")]
    with pytest.raises(ApiUnreachable, match="slow"):
        job.cancel()


def test_retries_end_with_an_error_that_says_what_to_do(fake: FakeApi, client: Client) -> None:
    fake.failures = [httpx.ConnectError("refused")] * 9
    with pytest.raises(ApiUnreachable, match="nightshift up"):
        client.workers()
    assert len(fake.requests) == 5


def test_a_part_that_does_not_answer_is_unavailable(fake: FakeApi, client: Client) -> None:
    fake.failures = [problem(503, "The database does not answer.")] * 5
    with pytest.raises(Unavailable, match="database"):
        client.workers()


def test_numbers_json_does_not_have_reach_the_api(fake: FakeApi, client: Client) -> None:
    fake.failures = [problem(422, "No.")]
    with pytest.raises(InvalidRequest):
        client.submit({"training": {"learning_rate": float("nan")}})
    assert b"NaN" in fake.requests[0].content


def test_jobs_come_page_by_page_up_to_the_limit(fake: FakeApi, client: Client) -> None:
    fake.jobs = {f"{n:016x}": job_data(f"{n:016x}") for n in range(5)}
    assert [int(job.id, 16) for job in client.jobs()] == [0, 1, 2, 3, 4]
    assert [int(job.id, 16) for job in client.jobs(limit=3)] == [0, 1, 2]
    assert list(client.jobs(limit=0)) == []


def test_filters_are_sent(fake: FakeApi, client: Client) -> None:
    list(client.jobs(state="running", tag="a=b"))
    assert dict(fake.requests[0].url.params) == {"state": "running", "tag": "a=b"}


@pytest.mark.parametrize("job_id", ["", "abc", "../x", "A1B2", "a1b2c3d4e5f607189", "xyz12345"])
def test_what_cannot_be_an_id_is_not_asked_for(fake: FakeApi, client: Client, job_id: str) -> None:
    with pytest.raises(InvalidRequest, match="16 hexadecimal digits"):
        client.job(job_id)
    assert fake.requests == []


def test_waiting_ends_with_the_final_state(fake: FakeApi, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.jobs = {ID: job_data(state="running"), OTHER_ID: job_data(OTHER_ID, state="running")}
    monkeypatch.setattr("nightshift.client.client.time.sleep", lambda seconds: fake.jobs[ID].update(state="succeeded"))
    assert client.job(ID).wait().state == "succeeded"
    with pytest.raises(TimeoutError, match="not final after 0 seconds"):
        client.job(OTHER_ID).wait(timeout=0)


def test_waiting_hears_of_states_only(fake: FakeApi, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.jobs[ID] = job_data(state="running")
    job = client.job(ID)
    fake.events[ID] = [(1, "metric", {"name": "loss"}), (2, "state", {"state": "succeeded"})]
    refresh = Job.refresh

    def then_succeed(self: Job) -> Job:
        refreshed = refresh(self)
        fake.jobs[ID]["state"] = "succeeded"
        return refreshed

    monkeypatch.setattr(Job, "refresh", then_succeed)
    job.wait()
    assert [dict(request.url.params) for request in fake.requests if request.url.path.endswith("events")] == [
        {"type": "state"}
    ]


def test_waiting_for_a_job_that_does_not_succeed_raises_what_happened(fake: FakeApi, client: Client) -> None:
    error = {"type": "bad_data", "message": "row 7 is ragged", "retryable": False}
    fake.jobs = {ID: job_data(state="failed", error=error), OTHER_ID: job_data(OTHER_ID, state="cancelled")}
    with pytest.raises(JobFailed, match="row 7 is ragged") as failed:
        client.job(ID).wait()
    assert (failed.value.type, failed.value.retryable, failed.value.job_id) == ("bad_data", False, ID)
    with pytest.raises(JobCancelled, match="was cancelled"):
        client.job(OTHER_ID).wait()
    assert client.job(ID).wait(check=False).state == "failed"


def test_a_deadline_is_kept_while_the_stream_is_silent(fake: FakeApi, client: Client) -> None:
    now = iter([0.0, 1.0, 1.0, 8.0, 8.0, 12.0, 12.0])
    deadline = Deadline(10.0, "too late", clock=lambda: next(now))
    chunks = deadline.cut(iter([b"a", b"b", b"c"]), silence=45.0)
    assert next(chunks) == b"a"
    with pytest.raises(StreamDropped, match="deadline is near"):  # 9 s are left, a silence may last longer
        next(chunks)
    assert deadline.left == 2.0
    assert deadline.left == 2.0
    with pytest.raises(TimeoutError, match="too late"):
        deadline.check()


# -- metrics --------------------------------------------------------------------------------------


def test_metrics_are_a_table(fake: FakeApi, client: Client) -> None:
    fake.jobs[ID] = job_data()
    rows = [
        {"name": "loss", "step": step, "epoch": 0, "value": 1 / step, "at": "2027-01-31T02:00:00.000Z"}
        for step in (1, 2)
    ]
    fake.collections["jobs/metrics"] = rows
    table = client.job(ID).metrics()
    assert table == rows
    assert table.series() == {"loss": [(1, 1.0), (2, 0.5)]}


def test_metrics_become_a_data_frame_where_pandas_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frame(dict):  # type: ignore[type-arg]
        def __init__(self, rows: list[dict[str, object]], columns: list[str]) -> None:
            super().__init__({name: [row[name] for row in rows] for name in columns})

    pandas = types.SimpleNamespace(
        DataFrame=Frame, to_datetime=lambda column: [datetime.fromisoformat(at) for at in column]
    )
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    point: MetricPoint = {"name": "loss", "step": 1, "epoch": 0, "value": 0.5, "at": "2027-01-31T02:00:00.000Z"}
    frame = MetricTable([point]).to_pandas()
    assert list(frame) == ["name", "step", "epoch", "value", "at"]
    assert frame["at"] == [datetime(2027, 1, 31, 2, tzinfo=UTC)]


def test_logs_from_the_end(fake: FakeApi, client: Client) -> None:
    fake.jobs[ID] = job_data()
    fake.collections["jobs/logs"] = [{"seq": n, "message": str(n)} for n in range(5)]
    assert [line["seq"] for line in client.job(ID).logs(tail=2)] == [3, 4]
    assert client.job(ID).logs(tail=0) == []


# -- artifacts ------------------------------------------------------------------------------------


def test_artifacts_are_downloaded_below_the_folder(fake: FakeApi, client: Client, tmp_path: Path) -> None:
    fake.jobs[ID] = job_data()
    fake.files[ID] = {"model/config.json": b"{}", "curves.png": b"png", "odd name#1?.txt": b"odd"}
    job = client.job(ID)
    assert job.artifact("curves.png") == b"png"
    assert job.artifact("curves.png", to=tmp_path / "mine" / "c.png").read_bytes() == b"png"
    shutil.rmtree(tmp_path / "mine")
    written = job.download(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in written) == sorted(fake.files[ID])
    assert (tmp_path / "model" / "config.json").read_bytes() == b"{}"


def test_a_damaged_download_leaves_nothing(fake: FakeApi, client: Client, tmp_path: Path) -> None:
    fake.jobs[ID], fake.files[ID] = job_data(), {"curves.png": b"png"}
    artifact = client.job(ID).artifacts()[0]
    fake.files[ID]["curves.png"] = b"pnq"
    with pytest.raises(DamagedDownload, match="SHA-256"):
        artifact.download(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "model/../../evil"])
def test_an_artifact_cannot_leave_its_folder(fake: FakeApi, client: Client, tmp_path: Path, path: str) -> None:
    fake.jobs[ID], fake.files[ID] = job_data(), {path: b""}
    with pytest.raises(DamagedDownload, match="leaves the folder"):
        client.job(ID).download(tmp_path / "here")
    assert list(tmp_path.rglob("*")) == []


def test_a_missing_artifact_says_what_there_is(fake: FakeApi, client: Client) -> None:
    fake.jobs[ID], fake.files[ID] = job_data(), {"curves.png": b""}
    with pytest.raises(NotFound, match=r"curves\.png"):
        client.job(ID).artifact("curve.png")


# -- uploads --------------------------------------------------------------------------------------


def test_a_folder_is_sent_as_a_zip_of_its_visible_files(fake: FakeApi, client: Client, tmp_path: Path) -> None:
    for name in ("cats/1.jpg", "dogs/2.jpg", ".hidden/x", "cats/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert client.add_dataset("mine", tmp_path, "images") == {"name": "mine", "version": 2}
    sent = fake.requests[0].content
    assert b'name="format"\r\n\r\nimages' in sent
    assert f'filename="{tmp_path.name}.zip"'.encode() in sent
    packed = io.BytesIO()
    assert uploads.pack(tmp_path, packed) == 2
    assert packed.getvalue() in sent
    assert zipfile.ZipFile(packed).namelist() == ["cats/1.jpg", "dogs/2.jpg"]


def test_files_are_sent_whole_with_their_kind(fake: FakeApi, client: Client, tmp_path: Path) -> None:
    for name in ("a.bin", ".hidden/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    client.add_dataset("mine", tmp_path, kind="files")
    sent = fake.requests[0].content
    assert b'name="kind"\r\n\r\nfiles' in sent
    packed = io.BytesIO()
    assert uploads.pack(tmp_path, packed, all_files=True) == 2
    assert packed.getvalue() in sent
    (tmp_path / "link").symlink_to(tmp_path / ".hidden")
    with pytest.raises(InvalidRequest, match="link is a link to a folder"):
        client.add_dataset("mine", tmp_path, kind="files")


def test_a_file_is_sent_as_it_is(fake: FakeApi, client: Client, tmp_path: Path) -> None:
    (tmp_path / "poems.txt").write_bytes(b"two roads\r\n")
    client.add_dataset("poems", tmp_path / "poems.txt")
    assert b'filename="poems.txt"' in fake.requests[0].content
    assert b"two roads\r\n" in fake.requests[0].content


def test_nothing_to_send_is_said(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="contains no files"):
        client.add_dataset("empty", tmp_path)
    with pytest.raises(InvalidRequest, match="neither a file nor a folder"):
        client.add_dataset("gone", tmp_path / "gone")
