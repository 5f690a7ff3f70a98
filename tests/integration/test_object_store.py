"""What the storage promises, of a folder and of a bucket alike; and what only a bucket can do wrong."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from api.commands import doctor
from nightshift.errors import ConfigurationError, NotFound
from shared.datasets import gc, references, registry
from shared.datasets.builtins import digits
from shared.datasets.ingest.build import store_images
from shared.datasets.store import hash_of, open_dataset
from shared.db.engine import write
from shared.errors import LeaseLost, NotStored, StorageUnavailable
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs import transitions
from shared.settings import Settings
from shared.storage import LocalStorage, copy, refuse_unusable, storage_of
from shared.storage.s3 import S3Storage
from shared.storage.s3_client import LONGEST_SECONDS, PIECE, Bucket
from tests.support.factories import make_checkpoint, running_job
from tests.support.objects import ABucket, ObjectStore
from tests.support.stack import eventually
from worker.maintenance import pruner

JOB = "0123456789abcdef"


@pytest.fixture
def bucket(objects: ObjectStore) -> ABucket:
    return objects.bucket()


@pytest.fixture(params=["file", "s3"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Settings]:
    """Settings of a host by its name: hosts share one storage and, of a bucket, nothing else."""
    if request.param == "file":
        return lambda name: Settings(data_dir=tmp_path / name, storage_url=f"file://{tmp_path}/shared")
    bucket: ABucket = request.getfixturevalue("objects").bucket()
    return lambda name: bucket.settings(tmp_path / name)


def host_of(bucket: ABucket, folder: Path, **more: int) -> S3Storage:
    storage = storage_of(bucket.settings(folder, **more))
    assert isinstance(storage, S3Storage)
    return storage


def carried(storage: LocalStorage, content: bytes = b"x" * 1000, step: int = 5) -> CheckpointRecord:
    """A checkpoint that the storage has taken."""
    saved = checkpoint_files.write(
        storage.root / "jobs" / JOB, step=step, fence=1, files={"a": [content], "b": [b"more"], "deep/er/c": [b"below"]}
    )
    arrived = threading.Event()
    uploader = storage.uploader(JOB, arrived.set)
    uploader.send(saved)
    assert eventually("it has arrived", uploader.arrived) == [saved]
    uploader.close()
    return saved


def key_of(checkpoint: CheckpointRecord) -> str:
    return f"jobs/{JOB}/{checkpoint.path}"


def held(storage: LocalStorage, checkpoint: CheckpointRecord) -> Path:
    with storage.hold(key_of(checkpoint), partial(checkpoint_files.verify, sha256=checkpoint.sha256)) as folder:
        checkpoint_files.verify(folder, checkpoint.sha256)
        return folder


# -- of a folder and of a bucket ------------------------------------------------------------------


def test_a_lost_answer_does_not_keep_a_stopped_worker_until_its_last_resort() -> None:
    assert Settings().drain_seconds > LONGEST_SECONDS


def test_a_data_set_of_one_host_is_read_on_another(host: Callable[[str], Settings], sqlite_engine: Engine) -> None:
    version = registry.ensure_builtin(sqlite_engine, host("a"), "digits")
    assert registry.ensure_builtin(sqlite_engine, host("b"), "digits") == version
    with registry.hold_dataset(host("b"), version) as folder:
        assert hash_of(folder) == version.sha256
        assert open_dataset(folder).count("train") == 1438


@pytest.mark.parametrize("kind", ["files", "table"])
def test_files_and_tables_of_one_host_are_read_on_another_and_removed(
    host: Callable[[str], Settings], sqlite_engine: Engine, tmp_path: Path, kind: str
) -> None:
    given = tmp_path / "given.csv"
    given.write_text("a,b\n1,2\n")
    if kind == "files":
        (tmp_path / "given" / "deep" / ".er").mkdir(parents=True)
        given = given.rename(tmp_path / "given" / "deep" / ".er" / "meta.json").parents[2]
    version = registry.register(sqlite_engine, host("a"), "mine", given, kind=kind)
    assert registry.register(sqlite_engine, host("a"), "mine", given, kind=kind) == version
    with registry.hold_dataset(host("b"), version) as folder:
        assert hash_of(folder) == version.sha256
        data = open_dataset(folder)
        if kind == "files":
            (found,) = (path for path in data.user_folder.rglob("*") if path.is_file())
            assert found.relative_to(data.user_folder).as_posix() == "deep/.er/meta.json"
            assert (found.stat().st_mode & 0o777, found.parent.stat().st_mode & 0o777) == (0o444, 0o555)
    with write(sqlite_engine) as conn:
        references.delete_version(conn, "mine", 1, None)
    storage = storage_of(host("a"))
    assert gc.clear(sqlite_engine, storage, -1) == 1
    assert not storage.has_dataset(version.sha256)


def test_an_appended_version_is_made_where_the_first_was_not(
    host: Callable[[str], Settings], sqlite_engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "one.csv").write_text("text,label\n" + "".join(f"word {n},{'ab'[n % 2]}\n" for n in range(40)))
    first = registry.register(sqlite_engine, host("a"), "words", tmp_path / "one.csv")
    (tmp_path / "two.csv").write_text("text,label\n" + "".join(f"other {n},{'ab'[n % 2]}\n" for n in range(10)))
    second = registry.append(sqlite_engine, host("b"), "words", tmp_path / "two.csv")
    with registry.hold_dataset(host("c"), second) as folder:
        train = open_dataset(folder).count("train")
    with registry.hold_dataset(host("c"), first) as folder:
        assert train == open_dataset(folder).count("train") + 10


def test_a_checkpoint_of_one_host_is_held_on_another(host: Callable[[str], Settings]) -> None:
    checkpoint = carried(storage_of(host("a")))
    folder = held(storage_of(host("b")), checkpoint)
    assert (folder / "a").read_bytes() == b"x" * 1000
    assert (folder / "deep" / "er" / "c").read_bytes() == b"below"
    assert storage_of(host("b")).children(f"jobs/{JOB}/checkpoints") == [checkpoint.path.rpartition("/")[2]]


def test_what_is_removed_is_gone(host: Callable[[str], Settings]) -> None:
    storage = storage_of(host("a"))
    checkpoint = carried(storage)
    assert storage.remove(key_of(checkpoint))
    assert storage.children(f"jobs/{JOB}/checkpoints") == []
    assert not storage.remove(key_of(checkpoint))
    assert not (storage.root / key_of(checkpoint)).exists()
    carried(storage)
    assert storage.remove_job(JOB)
    assert storage.children(f"jobs/{JOB}") == []


@pytest.mark.parametrize("key", ["datasets/x/y/z", "jobs/a", "jobs/a/b", "jobs/../../x/y", "", "jobs"])
def test_only_what_lies_in_a_jobs_folder_is_removed(host: Callable[[str], Settings], key: str) -> None:
    assert not storage_of(host("a")).remove(key)


def test_an_artifact_is_read_from_anywhere_in_it(host: Callable[[str], Settings]) -> None:
    storage, key, content = storage_of(host("a")), f"jobs/{JOB}/attempts/1/artifacts/model/weights", os.urandom(5000)
    (storage.root / key).parent.mkdir(parents=True)
    (storage.root / key).write_bytes(content)
    storage.keep_files({key: hashlib.sha256(content).hexdigest()})
    reader = storage_of(host("b")).reader(key)
    assert reader.size == 5000
    with reader.open() as file:
        assert file.read() == content
        file.seek(4990)
        assert file.read(100) == content[4990:]
    with pytest.raises(NotFound):
        storage.reader(f"{key}-not")


def test_data_sets_that_no_version_names_are_removed(host: Callable[[str], Settings], sqlite_engine: Engine) -> None:
    kept = registry.ensure_builtin(sqlite_engine, host("a"), "digits")
    storage = storage_of(host("a"))
    source = digits()
    other = storage.keep_dataset(
        store_images(storage.root / "datasets", type(source)(source.classes[::-1], source.image, source.splits))
    )
    assert other.is_there()
    assert gc.clear(sqlite_engine, storage, 3600) == 0
    assert gc.clear(sqlite_engine, storage, -1) == 1
    assert not other.is_there()
    assert storage_of(host("b")).has_dataset(kept.sha256)
    with write(sqlite_engine) as conn, pytest.raises(Exception, match="register it again"):
        gc.keep(conn, other)


# -- of a bucket ----------------------------------------------------------------------------------


def large(folder: Path) -> Path:
    """A file of two pieces."""
    path = folder / "large"
    path.write_bytes(os.urandom(PIECE + 7))
    return path


def test_a_large_file_goes_in_pieces_and_each_with_its_md5(bucket: ABucket, tmp_path: Path) -> None:
    path, back, store = large(tmp_path), tmp_path / "back", Bucket(bucket.url, bucket.store.endpoint)
    sent: dict[str, list[bytes]] = {}

    def note(request: Any, event_name: str, **_: Any) -> None:
        sent.setdefault(event_name.rpartition(".")[2], []).append(request.headers.get("Content-MD5"))

    store._client.meta.events.register("before-send.s3", note)
    try:
        sha256 = store.put(path, "some/large")
        (tmp_path / "small").write_bytes(b"x")
        store.put(tmp_path / "small", "some/small")
    finally:
        store._client.meta.events.unregister("before-send.s3", note)
    pieces = [path.read_bytes()[:PIECE], path.read_bytes()[PIECE:]]
    assert sorted(sent["UploadPart"]) == sorted(base64.b64encode(hashlib.md5(piece).digest()) for piece in pieces)
    assert sent["PutObject"] == [base64.b64encode(hashlib.md5(b"x").digest())]
    store.get(store.head("some/large"), back)
    assert hashlib.sha256(back.read_bytes()).hexdigest() == sha256


@pytest.mark.parametrize("calls", [0, 1])
def test_a_transfer_that_is_broken_off_leaves_nothing(bucket: ABucket, tmp_path: Path, calls: int) -> None:
    path, store, left = large(tmp_path), Bucket(bucket.url, bucket.store.endpoint), iter(range(calls))

    def cancel_check() -> None:
        if next(left, None) is None:
            raise LeaseLost("a job", 1)

    with pytest.raises(LeaseLost):
        store.put(path, "some/large", cancel_check)
    assert bucket.keys() == []
    assert "Uploads" not in bucket.store.client.list_multipart_uploads(Bucket=bucket.name)


@pytest.mark.parametrize("harm", ["flip", "delete"])
def test_what_is_damaged_or_missing_in_the_bucket_is_never_handed_out(
    bucket: ABucket, tmp_path: Path, harm: str
) -> None:
    checkpoint = carried(host_of(bucket, tmp_path / "a"))
    getattr(bucket, harm)(f"{key_of(checkpoint)}/a")
    with pytest.raises(NotStored):
        held(host_of(bucket, tmp_path / "b"), checkpoint)
    assert held(host_of(bucket, tmp_path / "a"), checkpoint), "a host that has it needs no bucket"


def test_a_copy_that_is_damaged_here_is_brought_again(bucket: ABucket, tmp_path: Path) -> None:
    storage = host_of(bucket, tmp_path / "a")
    checkpoint = carried(storage)
    (storage.root / key_of(checkpoint) / "a").write_bytes(b"y" * 1000)
    assert (held(storage, checkpoint) / "a").read_bytes() == b"x" * 1000


def test_a_damaged_data_set_is_not_used(bucket: ABucket, tmp_path: Path, sqlite_engine: Engine) -> None:
    version = registry.ensure_builtin(sqlite_engine, bucket.settings(tmp_path / "a"), "digits")
    bucket.flip(f"datasets/{version.sha256}/train_x.npy")
    with pytest.raises(NotFound, match="are missing"):
        registry.hold_dataset(bucket.settings(tmp_path / "b"), version)


def test_a_checkpoint_that_changed_before_it_was_carried_is_refused(bucket: ABucket, tmp_path: Path) -> None:
    storage = host_of(bucket, tmp_path / "a")
    written = checkpoint_files.write(storage.root / "jobs" / JOB, step=1, fence=1, files={"a": [b"x"]})
    (storage.root / "jobs" / JOB / written.path / "a").write_bytes(b"y")
    uploader = storage.uploader(JOB, lambda: None)
    uploader.send(written)
    [(_, why)] = eventually("it is refused", uploader.refused)
    assert "hash" in why
    assert bucket.keys() == []
    uploader.close()


def test_room_is_made_by_what_was_used_longest_ago_and_is_free(bucket: ABucket, tmp_path: Path) -> None:
    storage = host_of(bucket, tmp_path / "a", storage_cache_bytes=10_000_000)
    first, second, third = (carried(storage, os.urandom(4_000_000), step) for step in (1, 2, 3))
    here = lambda: [(storage.root / key_of(one)).exists() for one in (first, second, third)]  # noqa: E731
    assert here() == [False, True, True]
    with storage.hold(key_of(second), partial(checkpoint_files.verify, sha256=second.sha256)):
        assert held(storage, first).exists(), "it is brought again"
        assert here() == [True, True, False]
        written = checkpoint_files.write(
            storage.root / "jobs" / JOB, step=9, fence=1, files={"a": [os.urandom(9_000_000)]}
        )
        storage.cache.trim()
        assert (storage.root / "jobs" / JOB / written.path).exists(), "what the bucket does not have stays"
    assert held(storage, third).exists()
    assert here() == [True, False, True]


def test_what_an_attempt_left_over_goes_when_it_is_over(bucket: ABucket, tmp_path: Path) -> None:
    storage = host_of(bucket, tmp_path / "a")
    work = storage.work_folder(JOB)
    checkpoint = carried(storage)
    scratch = storage.root / "jobs" / JOB / "attempts" / "1" / "scratch"
    scratch.mkdir(parents=True)
    other = storage.work_folder(JOB)
    work.close()
    assert scratch.exists(), "another attempt of this host is at work"
    other.close()
    assert not scratch.exists()
    assert (storage.root / key_of(checkpoint)).exists()


def test_what_a_family_keeps_beside_its_checkpoints_goes_with_them(bucket: ABucket, tmp_path: Path) -> None:
    here, there = host_of(bucket, tmp_path / "a"), host_of(bucket, tmp_path / "b")
    samples = here.root / "jobs" / JOB / "samples"
    samples.mkdir(parents=True)
    (samples / "epoch-001.png").write_bytes(b"first")
    (samples / "epoch-002.77.tmp").write_bytes(b"half a pic")
    carried(here)
    there.fetch_beside(JOB)
    [brought] = (there.root / "jobs" / JOB / "samples").iterdir()
    assert (brought.name, brought.read_bytes()) == ("epoch-001.png", b"first")


def test_the_index_forgets_what_retention_removed(bucket: ABucket, tmp_path: Path) -> None:
    storage = host_of(bucket, tmp_path / "a")
    first, second = carried(storage, step=1), carried(storage, step=2)
    shutil.rmtree(storage.root / key_of(first))
    storage.cache.trim()
    assert [entry.key for entry in storage.cache.entries()] == [key_of(second)]


@pytest.mark.usefixtures("objects")  # for its credentials
def test_maintenance_goes_on_while_the_store_is_away(tmp_path: Path, sqlite_engine: Engine) -> None:
    job = running_job(sqlite_engine)
    with write(sqlite_engine) as conn:
        transitions.commit_checkpoint(conn, job, make_checkpoint(id="c"))
        transitions.delete_checkpoints(conn, job, ["c"])
    settings = Settings(data_dir=tmp_path, storage_url="s3://some-bucket", storage_endpoint_url="http://127.0.0.1:1")
    counts = pruner.run_once(sqlite_engine, settings)
    assert counts["checkpoints"] == 0
    assert counts.keys() >= {"offline", "deliveries"}


def test_a_store_that_comes_back_gets_what_waited(objects: ObjectStore, bucket: ABucket, tmp_path: Path) -> None:
    storage = host_of(bucket, tmp_path / "a")
    storage.check_access()
    written = [
        checkpoint_files.write(storage.root / "jobs" / JOB, step=step, fence=1, files={"a": [b"x"]}) for step in (1, 2)
    ]  # fmt: skip
    uploader = storage.uploader(JOB, lambda: None)
    objects.stop()
    try:
        for one in written:
            uploader.send(one)
        eventually("it was tried", lambda: uploader.trouble)
        assert uploader.arrived() == []
        with pytest.raises(StorageUnavailable):
            storage.reader("jobs/x")
    finally:
        objects.start()
    arrived: list[CheckpointRecord] = []
    eventually("both arrived", lambda: arrived.extend(uploader.arrived()) or len(arrived) == 2)
    assert arrived == written
    uploader.close()


# -- from a folder to a bucket --------------------------------------------------------------------


def test_a_folder_is_copied_and_all_that_sql_lists_is_looked_for(
    bucket: ABucket, tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    before = Settings(data_dir=tmp_path / "before")
    (tmp_path / "files" / ".hidden").mkdir(parents=True)
    (tmp_path / "files" / ".hidden" / "x").write_text("x")
    files = registry.register(sqlite_engine, before, "mine", tmp_path / "files", kind="files")
    version = registry.ensure_builtin(sqlite_engine, before, "digits")
    derived = before.storage_root / "datasets" / version.sha256 / "resized-28x28x1" / "test_x.npy"
    derived.parent.mkdir()
    derived.touch()
    checkpoint = carried(storage_of(before))
    after = bucket.settings(tmp_path / "after", database_url=sqlite_url)
    assert copy.run(before.storage_root, after) == 0
    assert not any("resized" in key for key in bucket.keys("datasets/"))
    assert held(storage_of(after), checkpoint)
    for copied in (version, files):
        with registry.hold_dataset(after, copied) as folder:
            assert hash_of(folder) == copied.sha256
    bucket.delete(f"datasets/{version.sha256}/meta.json")
    assert copy.absent(sqlite_engine, Bucket(bucket.url, bucket.store.endpoint)) == [
        f"datasets/{version.sha256}/meta.json"
    ]
    assert copy.copy(before.storage_root, Bucket(bucket.url, bucket.store.endpoint))[0] == 1, "only what is missing"


def test_what_is_no_storage_folder_is_not_copied(bucket: ABucket, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no storage folder"):
        copy.run(tmp_path, bucket.settings(tmp_path))
    with pytest.raises(ConfigurationError, match="names no bucket"):
        copy.run(tmp_path, Settings(data_dir=tmp_path))


# -- can it work ----------------------------------------------------------------------------------


def _said(settings: Settings) -> tuple[str, str]:
    [finding] = doctor._guarded("storage", doctor.storage, settings)
    return finding.level, finding.detail


def test_check_tries_everything_and_leaves_nothing(bucket: ABucket, tmp_path: Path) -> None:
    level, detail = _said(bucket.settings(tmp_path))
    assert (level, bucket.url in detail) == ("ok", True)
    assert bucket.keys() == []


def test_a_bucket_that_is_not_there_is_named_with_the_way_out(bucket: ABucket, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, storage_url="s3://there-is-none", storage_endpoint_url=bucket.store.endpoint
    )  # fmt: skip
    level, detail = _said(settings)
    assert level == "fails"
    assert "'there-is-none'" in detail
    assert "aws s3 mb" in detail
    with pytest.raises(ConfigurationError, match="there-is-none"):
        refuse_unusable(settings)
    with pytest.raises(StorageUnavailable):
        storage_of(settings).children("jobs")  # never taken for a store that lost its files


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    settings = Settings(data_dir=tmp_path, storage_url="s3://some-bucket", storage_endpoint_url="http://127.0.0.1:2")
    assert _said(settings) == (
        "fails",
        "NIGHTSHIFT_STORAGE_URL is s3://, which needs packages that are not installed: pip install 'nightshift[s3]'",
    )


@pytest.mark.usefixtures("objects")  # for its credentials
def test_a_process_starts_while_the_store_is_only_away(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, storage_url="s3://some-bucket", storage_endpoint_url="http://127.0.0.1:1")
    refuse_unusable(settings)
    level, detail = _said(settings)
    assert level == "fails"
    assert "does not answer" in detail
