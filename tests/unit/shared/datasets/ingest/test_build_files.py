"""Any files as a data set: what is stored, under which hash, and how it is protected and removed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import Engine

from nightshift.errors import InvalidRequest, MalformedRequest, TooLarge
from shared.datasets import gc, previews, references, registry, views
from shared.datasets.store import open_dataset
from shared.db.engine import read, write
from shared.folders import remove_folder
from shared.settings import Settings
from shared.storage.local import LocalStorage
from tests.support.dataset_files import npz, zipped
from tests.support.paths import ROOT

CONTENT = {"config.json": b"{}", ".hidden": b"kept", "meta.json": b"the user's", "parts/a/1.bin": b"\0\1", "empty": b""}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", _env_file=None)


def written(folder: Path, content: dict[str, bytes] = CONTENT) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_program_finds_exactly_the_files_that_were_given(
    sqlite_engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    version = registry.register(sqlite_engine, settings, "corpus", written(tmp_path / "corpus"), kind="files")
    stored = open_dataset(registry.dataset_folder(settings, version))
    assert files_of(stored.user_folder) == CONTENT
    assert version.summary["splits"] == {"files": {"count": 5}}
    with read(sqlite_engine) as conn:
        preview = views.show(conn, "corpus")["preview"]
    assert preview["files"][0] == {"path": ".hidden", "size_bytes": 4}
    assert previews.preview(stored.folder) == (
        b".hidden\nconfig.json\nempty\nmeta.json\nparts/a/1.bin\n",
        "text/plain; charset=utf-8",
    )


def test_equal_content_is_one_version_and_other_content_a_new_one(
    sqlite_engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    first = registry.register(sqlite_engine, settings, "corpus", written(tmp_path / "corpus"), kind="files")
    backwards = tmp_path / "corpus.zip"
    with zipfile.ZipFile(backwards, "w") as archive:
        archive.mkdir("parts/")
        for name in reversed(CONTENT):
            archive.writestr(zipfile.ZipInfo(name, (1999, 1, 1, 0, 0, 0)), CONTENT[name])
        archive.writestr("__MACOSX/._config.json", b"of the desktop")
    again = registry.register(sqlite_engine, settings, "corpus", backwards, kind="files")
    assert (again.version, again.sha256) == (1, first.sha256)
    renamed = {**CONTENT, "b": CONTENT["empty"]}
    del renamed["empty"]
    other = registry.register(sqlite_engine, settings, "corpus", written(tmp_path / "renamed", renamed), kind="files")
    assert (other.version, other.sha256 != first.sha256) == (2, True)


def test_a_single_file_is_kept_as_it_is_also_if_it_is_a_zip_by_another_name(
    sqlite_engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    given = npz(tmp_path / "weights.npz")
    version = registry.register(sqlite_engine, settings, "weights", given, kind="files")
    folder = open_dataset(registry.dataset_folder(settings, version)).user_folder
    assert files_of(folder) == {"weights.npz": given.read_bytes()}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../outside", "points outside"),
        ("/etc/passwd", "points outside"),
        ("C:/x", "points outside"),
        ("a\nb", "control characters"),
        ("x" * 256, "too long a name"),
        ("/".join(["y" * 200] * 5), "too long a name"),
    ],
)
def test_a_name_that_cannot_be_stored_is_refused(
    sqlite_engine: Engine, settings: Settings, tmp_path: Path, name: str, problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        registry.register(sqlite_engine, settings, "bad", zipped(tmp_path / "a.zip", {name: b"x"}), kind="files")
    assert not list((settings.storage_root / "datasets").glob("*"))


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"a": b"1", "a/b": b"2"}, "lies in a folder that is also a file: a"),
        ({"a/b": b"1", "a//b": b"2"}, "has the same place as"),
        ({"zeros": bytes(20_000_000)}, "unpacks to more than 100 times"),
        ({}, "holds no files"),
    ],
)
def test_a_zip_that_does_not_unpack_to_its_files_is_refused(
    sqlite_engine: Engine, settings: Settings, tmp_path: Path, members: dict[str, bytes], problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        registry.register(sqlite_engine, settings, "bad", zipped(tmp_path / "a.zip", members), kind="files")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_a_zip_with_a_link_or_a_device_is_refused(
    sqlite_engine: Engine, settings: Settings, tmp_path: Path, mode: int
) -> None:
    entry = zipfile.ZipInfo("x")
    entry.external_attr = (mode | 0o644) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, b"/etc/passwd")
    with pytest.raises(InvalidRequest, match="is a link or a device"):
        registry.register(sqlite_engine, settings, "bad", tmp_path / "a.zip", kind="files")


def test_a_folder_with_a_link_is_refused(sqlite_engine: Engine, settings: Settings, tmp_path: Path) -> None:
    (written(tmp_path / "corpus") / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(InvalidRequest, match=r"passwd: is a link or a device"):
        registry.register(sqlite_engine, settings, "bad", tmp_path / "corpus", kind="files")


def test_a_damaged_zip_leaves_nothing(sqlite_engine: Engine, settings: Settings, tmp_path: Path) -> None:
    packed = zipped(tmp_path / "a.zip", {"first": b"1" * 1000, "second": os.urandom(1000)})
    data = bytearray(packed.read_bytes())
    data[data.index(b"second") + 100] ^= 1
    packed.write_bytes(data)
    with pytest.raises(MalformedRequest, match="second: is cut off or damaged"):
        registry.register(sqlite_engine, settings, "bad", packed, kind="files")
    assert not list((settings.storage_root / "datasets").glob("*"))


def test_the_limit_counts_what_small_files_take_on_the_disk(sqlite_engine: Engine, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", _env_file=None, max_dataset_bytes=1_000_000)
    many = zipped(tmp_path / "a.zip", {f"{number}": b"" for number in range(300)})
    with pytest.raises(TooLarge, match="would take 1,228,800 bytes"):
        registry.register(sqlite_engine, settings, "many", many, kind="files")


#: Registers a folder, tries to write into what was stored, and removes it, as a user who is not root.
_AS_A_USER = """
import os, sys
from pathlib import Path
from shared.datasets.ingest.build_files import FileSource, store_files
from shared.datasets.ingest.source_files import FolderFiles
from shared.datasets.store import open_dataset
from shared.storage.local import LocalStorage
os.umask(0o077)
if os.getuid() == 0:  # after the imports: a user may not be able to read where Python is installed
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
root = Path(sys.argv[1])
stored = store_files(root / "datasets", FileSource(FolderFiles(root / "given")))
user = open_dataset(stored.folder).user_folder
tries = [
    lambda: (user / "parts/a/1.bin").write_bytes(b"x"), lambda: (user / "new").touch(),
    lambda: (user / "config.json").unlink(), lambda: (user / "parts").rename(user / "moved"),
]
for attempt in tries:
    try:
        attempt()
    except PermissionError:
        print("refused")
storage = LocalStorage(root)
storage.take_dataset(stored.sha256)
storage.clear_datasets()
print(os.listdir(root / "datasets"))
"""


def test_writing_fails_and_removing_works_for_a_user_who_is_not_root() -> None:
    root = Path(tempfile.mkdtemp())  # the folders of pytest are for its own user only
    try:
        written(root / "given", {name: data for name, data in CONTENT.items() if name != ".hidden"})
        for path in (root, *root.rglob("*")):
            path.chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", _AS_A_USER, str(root)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.stdout.split("\n") == ["refused"] * 4 + ["[]", ""], done.stderr
    finally:
        remove_folder(root)


def test_stored_files_are_read_only_whatever_the_umask(
    sqlite_engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        version = registry.register(sqlite_engine, settings, "corpus", written(tmp_path / "corpus"), kind="files")
    finally:
        os.umask(before)
    folder = open_dataset(registry.dataset_folder(settings, version)).user_folder
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*")) if path.is_dir()}
    assert (modes, folders) == ({0o444}, {0o555})


def test_unused_versions_are_removed(sqlite_engine: Engine, settings: Settings, tmp_path: Path) -> None:
    version = registry.register(sqlite_engine, settings, "corpus", written(tmp_path / "corpus"), kind="files")
    storage = LocalStorage(settings.storage_root)
    assert gc.clear(sqlite_engine, storage, grace_seconds=-1) == 0
    with write(sqlite_engine) as conn:
        references.delete_version(conn, "corpus", version.version, None)
    assert gc.clear(sqlite_engine, storage, grace_seconds=-1) == 1
    assert not list((settings.storage_root / "datasets").glob("*"))


def test_a_folder_behind_a_link_is_not_opened(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir(mode=0o500)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "link").symlink_to(others)
    remove_folder(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    assert stat.S_IMODE(others.stat().st_mode) == 0o500
