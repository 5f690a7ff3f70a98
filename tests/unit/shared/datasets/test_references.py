"""Appending to data sets, and deleting versions: nothing that is needed goes, nothing that was appended is lost."""

from __future__ import annotations

import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, delete, text

from nightshift.errors import Conflict, InvalidRequest, NotFound, Unavailable
from shared.datasets import gc, overview, references, registry, views
from shared.datasets.models import DatasetVersion
from shared.datasets.store import META, OpenDataset, Stored, open_dataset
from shared.db.engine import read, write
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome
from shared.schedules import transitions as schedule_transitions
from shared.settings import Settings
from shared.specs.schedules import ScheduleSpec
from shared.storage import storage_of
from tests.support.dataset_files import class_folders, labelled_images, npz, picture, zipped
from tests.support.factories import ERROR, OWNER, claim_job, make_spec, submit_job

versions = DatasetVersion.__table__  # type: ignore[attr-defined]


class Shelf:
    """Data sets of a test, registered and opened."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder, self.settings = engine, folder, Settings(data_dir=folder, _env_file=None)

    def arrays(self, rows: int, start: int = 0, **more: Any) -> Path:
        """An .npz whose first pixel is the label and the second the row's number."""
        images, labels = labelled_images(rows)
        images[:, 0, 1] = np.arange(start, start + rows)
        return npz(self.folder / f"{start}-{rows}.npz", x=images, y=labels, **more)

    def register(self, path: Path, name: str = "shapes") -> OpenDataset:
        return self.open(registry.register(self.engine, self.settings, name, path))

    def append(self, path: Path, name: str = "shapes", **how: Any) -> OpenDataset:
        return self.open(registry.append(self.engine, self.settings, name, path, **how))

    def open(self, version: DatasetVersion) -> OpenDataset:
        return open_dataset(registry.dataset_folder(self.settings, version))

    def numbers(self, name: str = "shapes") -> list[int]:
        with read(self.engine) as conn:
            return [item["version"] for item in views.show(conn, name)["versions"]]

    def delete(self, ref: str) -> None:
        name, _, number = ref.partition("@")
        with write(self.engine) as conn:
            references.delete_version(conn, name, int(number))


@pytest.fixture
def shelf(engine: Engine, tmp_path: Path) -> Shelf:
    return Shelf(engine, tmp_path)


@pytest.fixture
def files(sqlite_engine: Engine, tmp_path: Path) -> Shelf:
    """Where the database makes no difference."""
    return Shelf(sqlite_engine, tmp_path)


def numbered(data: OpenDataset, split: str) -> list[int]:
    return [int(n) for n in data.x(split)[:, 0, 1, 0]]


# -- appending ------------------------------------------------------------------------------------


def test_new_rows_are_trained_on_and_the_test_part_stays(shelf: Shelf) -> None:
    old = shelf.register(shelf.arrays(40))
    before = {name: (old.folder / name).read_bytes() for name in ("test_x.npy", "test_y.npy", "train_x.npy")}
    new = shelf.append(shelf.arrays(30, start=40))
    assert shelf.numbers() == [1, 2]
    assert {name: (new.folder / name).read_bytes() for name in ("test_x.npy", "test_y.npy")} == {
        name: before[name] for name in ("test_x.npy", "test_y.npy")
    }
    assert numbered(new, "train") == [*numbered(old, "train"), *range(40, 70)]
    assert (new.y("train") == new.x("train")[:, 0, 0, 0]).all(), "labels stay with their images"
    assert new.count("train") == old.count("train") + 30
    assert new.meta["splits"]["train"]["classes"] == {"0": 16, "1": 16, "2": 15, "3": 15}
    assert (old.folder / "train_x.npy").read_bytes() == before["train_x.npy"]


def test_a_test_part_of_its_own_is_appended_to_the_test_part(files: Shelf) -> None:
    old = files.register(files.arrays(40))
    images, labels = labelled_images(8)
    new = files.append(files.arrays(4, start=40, x_test=images, y_test=labels))
    assert (new.count("train"), new.count("test")) == (old.count("train") + 4, old.count("test") + 8)
    assert (new.y("test")[-8:] == labels).all()


def test_classes_are_matched_by_name_and_new_ones_come_last(files: Shelf, tmp_path: Path) -> None:
    files.register(class_folders(tmp_path / "first", 6), "pets")
    more = tmp_path / "more"
    for name, colour in (("ants", (0, 250, 0)), ("dogs", (0, 0, 250))):
        (more / name).mkdir(parents=True)
        for number in range(3):
            (more / name / f"new{number}.jpg").write_bytes(picture((22, 28), colour))
    new = files.append(more, "pets")
    assert new.classes == ["cats", "dogs", "ants"]
    added = list(zip(new.y("train")[-6:].tolist(), new.ids("train")[-6:].tolist(), strict=True))  # type: ignore[index]
    assert added == [(n, f"{name}/new{i}.jpg".encode()) for n, name in ((2, "ants"), (1, "dogs")) for i in range(3)]
    assert new.meta["splits"]["test"]["classes"]["ants"] == 0
    colours = new.x("train")[-6:].reshape(6, -1, 3).mean(axis=1).argmax(axis=1)
    assert colours.tolist() == [1, 1, 1, 2, 2, 2], "pictures were brought to the set's size, each with its label"


def test_text_goes_on_after_the_old_text(files: Shelf, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("\n\n".join(f"story {n}" for n in range(20)))
    (tmp_path / "new.txt").write_text("a new one\n\nand another\n")
    old, new = files.register(tmp_path / "old.txt", "tales"), files.append(tmp_path / "new.txt", "tales")
    assert list(new.documents("test")) == list(old.documents("test"))
    told = [document.strip() for document in new.documents("train")]
    assert told == [*(document.strip() for document in old.documents("train")), "a new one", "and another"]
    assert new.count("train") == old.count("train") + 2


def test_labelled_text_keeps_its_labels(files: Shelf, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("text,label\n" + "".join(f"t{n},{'ab'[n % 2]}\n" for n in range(20)))
    (tmp_path / "new.csv").write_text("text,label\nx,c\ny,a\n")
    files.register(tmp_path / "old.csv", "notes")
    new = files.append(tmp_path / "new.csv", "notes")
    assert new.classes == ["a", "b", "c"]
    assert new.y("train")[-2:].tolist() == [2, 0]
    assert [document.strip() for document in new.documents("train")][-2:] == ["x", "y"]


def test_labelled_text_of_every_format_is_appended_to(files: Shelf, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("text,label\n" + "".join(f"t{n},{'ab'[n % 2]}\n" for n in range(20)))
    (tmp_path / "lines.jsonl").write_text('{"text": "x", "label": "c"}\n{"text": "y", "label": "b"}\n')
    folders = {f"{label}/{n}.txt": f"{label} {n}\n".encode() for label in "db" for n in range(2)}
    files.register(tmp_path / "old.csv", "notes")
    files.append(tmp_path / "lines.jsonl", "notes")
    new = files.append(zipped(tmp_path / "texts.zip", folders), "notes")
    assert new.classes == ["a", "b", "c", "d"]
    assert list(zip(new.documents("train"), new.y("train").tolist(), strict=True))[-6:] == [
        ("x\n", 2), ("y\n", 1), ("b 0\n", 1), ("b 1\n", 1), ("d 0\n", 3), ("d 1\n", 3)
    ]  # fmt: skip


def test_tags_are_matched_by_name_and_new_ones_come_last(files: Shelf, tmp_path: Path) -> None:
    (tmp_path / "old.conll").write_text("Ada B-PER\nmet O\nEU B-ORG\n\n" * 10)
    (tmp_path / "new.conll").write_text("Ulm B-LOC\n\nis O\nAda B-PER\n")
    old, new = files.register(tmp_path / "old.conll", "news"), files.append(tmp_path / "new.conll", "news")
    assert (old.tags, new.tags) == (["B-ORG", "B-PER", "O"], ["B-ORG", "B-PER", "O", "B-LOC"])
    assert new.token_tags("train").tolist() == [*old.token_tags("train").tolist(), 3, 2, 1]
    assert new.token_tags("test").tolist() == old.token_tags("test").tolist()
    assert list(new.documents("train")) == [*old.documents("train"), "Ulm\n", "is Ada\n"]
    assert new.meta["splits"]["test"] == {**old.meta["splits"]["test"], "tags": {
        **old.meta["splits"]["test"]["tags"], "B-LOC": 0
    }}  # fmt: skip
    parts = {f"{part}.conll": b"Ulm B-LOC\nis O\n\nAda O\n" for part in ("train", "valid", "test")}
    last = files.append(zipped(tmp_path / "parts.zip", parts), "news")
    assert last.token_tags("valid").tolist() == [3, 2, 2]
    assert last.token_tags("test").tolist() == [*new.token_tags("test").tolist(), 3, 2, 2]
    with read(files.engine) as conn:
        changes = [one["change"] for one in overview.versions(conn, "news")]
    assert changes[1] == {"rows": {"train": 2}, "classes": [], "gone": [], "tags": ["B-LOC"], "gone_tags": []}
    assert changes[0] == {
        "rows": {"train": 2, "valid": 2, "test": 2}, "classes": [], "gone": [], "tags": [], "gone_tags": []
    }  # fmt: skip


@pytest.mark.parametrize(
    ("base", "more", "hint"),
    [
        ("text", "conll", "has tags, but the data set has none"),
        ("conll", "text", "has no tags, but the data set has .sentences in columns: --format conll"),
        ("csv", "conll", "has tags, but the data set has none"),
        ("text", "csv", "has labels, but the data set has none .plain text in folders: --format text"),
        ("npz", "text", "holds text data, but the data set holds image"),
        ("npz", "wide", "images of 7x5x1"),
        ("csv", "text", "has no labels"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_kept(
    files: Shelf, tmp_path: Path, base: str, more: str, hint: str
) -> None:
    (tmp_path / "t.txt").write_text("one\n\ntwo\n")
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"t{n},{'ab'[n % 2]}\n" for n in range(20)))
    (tmp_path / "t.conll").write_text("EU B-ORG\nis O\n\n" * 10)
    images, labels = labelled_images(8, (7, 5))
    wide = npz(tmp_path / "wide.npz", x=images, y=labels)
    paths = {"npz": files.arrays(40), "csv": tmp_path / "t.csv", "text": tmp_path / "t.txt", "wide": wide}
    paths["conll"] = tmp_path / "t.conll"
    files.register(paths[base])
    before = sorted((tmp_path / "storage" / "datasets").iterdir())
    with pytest.raises(InvalidRequest, match=hint):
        files.append(paths[more])
    assert sorted((tmp_path / "storage" / "datasets").iterdir()) == before


def test_only_what_is_there_and_may_change_can_be_appended_to(files: Shelf) -> None:
    with pytest.raises(NotFound, match="nothing"):
        files.append(files.arrays(4), "nothing")
    with pytest.raises(InvalidRequest, match="cannot be changed"):
        files.append(files.arrays(4), "digits")


@pytest.mark.usefixtures("long_database_timeouts")
def test_appending_at_the_same_time_loses_no_row(shelf: Shelf) -> None:
    shelf.register(shelf.arrays(40))
    paths = [shelf.arrays(10, start=start) for start in (40, 50, 60, 70)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(shelf.append, paths))
    assert shelf.numbers() == [1, 2, 3, 4, 5]
    with read(shelf.engine) as conn:
        newest = shelf.open(registry.resolve(conn, "shapes"))
    assert sorted(n for n in numbered(newest, "train") if n >= 40) == list(range(40, 80))


# -- deleting -------------------------------------------------------------------------------------


def two_versions(shelf: Shelf) -> None:
    shelf.register(shelf.arrays(40))
    shelf.append(shelf.arrays(10, start=40))


def test_a_version_that_no_job_needs_is_deleted_and_its_number_is_not_used_again(shelf: Shelf) -> None:
    two_versions(shelf)
    shelf.delete("shapes@2")
    assert shelf.numbers() == [1]
    shelf.append(shelf.arrays(10, start=40))
    assert shelf.numbers() == [1, 3]
    with pytest.raises(NotFound):
        shelf.delete("shapes@2")


PROMOTE = {"metric": "test_accuracy", "evaluate_on": "shapes@1"}


@pytest.mark.parametrize(
    "fields",
    [{"dataset": "shapes@1"}, {"dataset": "shapes", "register_as": "m", "promote": PROMOTE}],
    ids=["dataset", "evaluate_on"],
)
def test_a_job_that_is_not_final_holds_what_it_names(shelf: Shelf, fields: dict[str, Any]) -> None:
    two_versions(shelf)
    job_id = submit_job(shelf.engine, **fields).job_id
    with pytest.raises(Conflict, match=f"job {job_id}"):
        shelf.delete("shapes@1")
    claimed = claim_job(shelf.engine)
    with write(shelf.engine) as conn:
        transitions.fail(conn, claimed.lease, outcome=AttemptOutcome.JOB_ERROR, error=ERROR)
    shelf.delete("shapes@1")


def test_a_running_job_holds_the_version_it_started_with(shelf: Shelf) -> None:
    two_versions(shelf)
    job_id = submit_job(shelf.engine, dataset="shapes").job_id
    lease = claim_job(shelf.engine).lease
    with write(shelf.engine) as conn:
        transitions.pin(conn, lease, {"dataset": "shapes@1", "dataset_sha256": "a" * 64})
    with pytest.raises(Conflict, match=job_id):
        shelf.delete("shapes@1")
    shelf.delete("shapes@2")  # the newest, which it would take if it started now


def test_a_waiting_job_that_takes_the_newest_holds_the_last_one(shelf: Shelf) -> None:
    two_versions(shelf)
    submit_job(shelf.engine, dataset="shapes")
    shelf.delete("shapes@2")
    with pytest.raises(Conflict, match="job"):
        shelf.delete("shapes@1")


def test_a_schedule_holds_what_its_job_names(shelf: Shelf) -> None:
    two_versions(shelf)
    job = make_spec(dataset="shapes", register_as="m", promote=PROMOTE).model_dump(mode="json")
    with write(shelf.engine) as conn:
        spec = ScheduleSpec.model_validate({"name": "nightly", "cron": "0 2 * * *", "job": job})
        schedule_id = schedule_transitions.create(conn, OWNER, spec)
    with pytest.raises(Conflict, match="the schedule 'nightly'"):
        shelf.delete("shapes@1")
    with write(shelf.engine) as conn:
        schedule_transitions.delete_schedule(conn, schedule_id, OWNER)
    shelf.delete("shapes@1")


def test_what_is_gone_cannot_be_named_any_more(shelf: Shelf) -> None:
    two_versions(shelf)
    shelf.delete("shapes@1")
    with pytest.raises(InvalidRequest, match="no data set 'shapes@1'") as caught:
        submit_job(shelf.engine, dataset="shapes@1")
    assert caught.value.errors[0].loc == ("dataset",)
    submit_job(shelf.engine, dataset="shapes")
    lease = claim_job(shelf.engine).lease
    with pytest.raises(NotFound), write(shelf.engine) as conn:
        transitions.pin(conn, lease, {"dataset": "shapes@1", "dataset_sha256": "a" * 64})


def test_a_pin_and_a_deletion_at_once_never_both_succeed(shelf: Shelf) -> None:
    """The deleter has looked for holders and not written yet when the job pins, and the other way round."""
    for round_ in range(6):
        shelf.register(shelf.arrays(40 + round_), f"set{round_}")
        shelf.append(shelf.arrays(10, start=40), f"set{round_}")
        submit_job(shelf.engine, dataset=f"set{round_}", priority=9)
        lease = claim_job(shelf.engine).lease
        barrier, done = threading.Barrier(2), set()

        def pin(lease: Any = lease, ref: str = f"set{round_}@1", barrier: Any = barrier, done: Any = done) -> None:
            barrier.wait()
            try:
                with write(shelf.engine) as conn:
                    transitions.pin(conn, lease, {"dataset": ref, "dataset_sha256": "a" * 64})
                    slowly(conn)
                done.add("pinned")
            except NotFound:
                pass

        def remove(ref: str = f"set{round_}", barrier: Any = barrier, done: Any = done) -> None:
            barrier.wait()
            try:
                with write(shelf.engine) as conn:
                    references.delete_version(conn, ref, 1)
                    slowly(conn)
                done.add("deleted")
            except Conflict:
                pass

        threads = [threading.Thread(target=target) for target in (pin, remove)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 1, done


def slowly(conn: Any) -> None:
    """Hold the transaction open while the other one is at work."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_sleep(0.05)"))


# -- folders --------------------------------------------------------------------------------------


def prune(shelf: Shelf, grace: float = -1.0) -> int:
    return gc.clear(shelf.engine, storage_of(shelf.settings), grace)


def test_the_folder_of_a_deleted_version_goes_and_the_others_stay(shelf: Shelf) -> None:
    two_versions(shelf)
    assert prune(shelf) == 0
    shelf.delete("shapes@2")
    assert prune(shelf, grace=3600) == 0, "young folders are left alone"
    assert prune(shelf) == 1
    with read(shelf.engine) as conn:
        kept = registry.dataset_folder(shelf.settings, registry.resolve(conn, "shapes"))
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_content_that_another_name_has_stays(shelf: Shelf) -> None:
    for name in ("one", "two"):
        shelf.register(shelf.arrays(40), name)
    shelf.delete("one@1")
    assert prune(shelf) == 0


def test_content_that_a_living_job_is_pinned_to_stays(shelf: Shelf) -> None:
    data = shelf.register(shelf.arrays(40))
    submit_job(shelf.engine, dataset="shapes")
    lease = claim_job(shelf.engine).lease
    with write(shelf.engine) as conn:
        transitions.pin(conn, lease, {"dataset": "shapes@1", "dataset_sha256": data.folder.name})
        conn.execute(delete(versions))
    assert prune(shelf) == 0


def test_a_row_is_not_written_for_a_folder_that_is_gone(shelf: Shelf) -> None:
    data = shelf.register(shelf.arrays(40))
    shelf.delete("shapes@1")
    stored = Stored(data.folder.name, data.folder, data.meta)
    assert prune(shelf) == 1
    with pytest.raises(Unavailable, match="register it again"):
        registry.enter(shelf.engine, "shapes", stored)
    again = shelf.register(shelf.arrays(40))
    assert (again.folder / META).exists()
    assert shelf.numbers() == [2]


def test_a_folder_as_a_zip_can_be_appended(files: Shelf, tmp_path: Path) -> None:
    files.register(class_folders(tmp_path / "first", 6), "pets")
    path = tmp_path / "more.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x", "y"):
            archive.writestr(f"cats/{name}.jpg", picture((20, 30), (250, 0, 0)))
    new = files.append(path, "pets", filename="more.zip")
    assert new.ids("train")[-2:].tolist() == [b"cats/x.jpg", b"cats/y.jpg"]  # type: ignore[index]
