"""`nightshift check`, `keys` without a database: every trouble is named with what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from typer.testing import Result

from api.commands import doctor
from api.services import programs
from shared.settings import Settings
from shared.specs.families import FAMILIES
from tests.support.cli import invoke as invoke_cli
from tests.support.gpus import Host, card
from tests.support.own_family import offer, write_family
from tests.support.plugins import installed, write_package

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"NIGHTSHIFT_{name.upper()}", raising=False)
    monkeypatch.setenv("NIGHTSHIFT_API_URL", "http://127.0.0.1:9")
    # The default port of Redis may be in use where tests run.
    monkeypatch.setattr("redis.Redis.info", lambda self: {"redis_version": "7.0.0"})

    def invoke(*args: str, code: int = 0) -> Result:
        result = invoke_cli(*args)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return invoke


def found(result: Result) -> dict[str, tuple[str, str]]:
    items = json.loads(result.stdout)["items"]
    return {item["part"]: (item["level"], f"{item['detail']} {item['advice']}") for item in items}


def test_a_fresh_machine_has_notes_and_no_failure(run: Run) -> None:
    parts = found(run("check", "--json"))
    assert parts["database"][0] == "note"
    assert "nightshift up" in parts["database"][1]
    assert parts["api"][0] == "note"
    assert parts["storage"][0] in ("ok", "note")
    assert not list(Path().iterdir())


def test_a_wrong_setting_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_API_PORT", "eighty")
    level, said = found(run("check", "--json", code=1))["settings"]
    assert level == "fails"
    assert "NIGHTSHIFT_API_PORT" in said
    assert "eighty" not in said


def test_settings_that_contradict_each_other_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_LEASE_SECONDS", "6")
    assert "NIGHTSHIFT_HEARTBEAT_SECONDS must be at most a third" in run("check", code=1).stdout


@pytest.mark.parametrize(
    ("name", "value", "part", "said"),
    [
        ("DATABASE_URL", "postgresql+psycopg://u:geheim@127.0.0.1:9/x?connect_timeout=2", "database",
            "does not answer"),
        ("DATABASE_URL", "nonsense", "database", ""),
        ("REDIS_URL", "http://localhost", "broker", "NIGHTSHIFT_REDIS_URL must be"),
        ("STORAGE_URL", "ftp://x", "settings", "file://"),
        ("DATASETS_DIR", "/does/not/exist", "data sets", "NIGHTSHIFT_DATASETS_DIR"),
    ],
)  # fmt: skip
def test_what_does_not_work_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str, said: str
) -> None:
    monkeypatch.setenv(f"NIGHTSHIFT_{name}", value)
    result = run("check", "--json", code=1)
    assert found(result)[part][0] == "fails"
    assert said in found(result)[part][1]
    assert "geheim" not in result.stdout


def test_a_named_redis_that_is_away_fails(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("NIGHTSHIFT_REDIS_URL", "redis://:geheim@127.0.0.1:9/0")
    result = run("check", "--json", code=1)
    assert found(result)["broker"][0] == "fails"
    assert "geheim" not in result.stdout


def test_an_old_schema_says_migrate(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    engine = create_engine(url)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE something (id INTEGER)"))
    engine.dispose()
    monkeypatch.setenv("NIGHTSHIFT_DATABASE_URL", url)
    assert found(run("check", "--json", code=1))["migrations"] == (
        "fails", "the schema is not up to date Run `nightshift migrate`.",
    )  # fmt: skip
    assert "run `nightshift migrate`" in run("keys", "list", code=1).stderr


def test_keys_without_a_database_say_where_it_was_looked_for(run: Run, tmp_path: Path) -> None:
    said = run("--data-dir", "other", "keys", "create", "x", code=1).stderr
    assert str(tmp_path / "other" / "nightshift.db") in said
    assert not (tmp_path / "other").exists()


def test_every_setting_is_listed_without_its_secrets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_REDIS_URL", "redis://:geheim@far:6379/0")
    monkeypatch.setenv("NIGHTSHIFT_API_KEY", "geheim")
    monkeypatch.setenv("NIGHTSHIFT_DATABASE_URL", "postgresql+psycopg://u:geheim@far/x")
    listed = run("check", "--settings").stdout
    for name, field in Settings.model_fields.items():
        assert f"NIGHTSHIFT_{name.upper()} = " in listed
        assert field.description
        assert field.description in listed
    assert "geheim" not in listed
    assert "geheim" not in run("check", "--settings", "--json").stdout
    assert "redis://:***@far:6379/0" in listed


def test_each_framework_is_tried_on_each_gpu(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host(tmp_path, *(card(f"GPU-{number}") for number in range(4)))
    host.enter(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", host.pythonpath)
    monkeypatch.setattr(doctor, "installed", lambda name: "1.0")
    host.breaks("tensorflow", "this build has no CUDA")
    host.breaks("torch", "dies", "GPU-1")
    host.breaks("tensorflow", "dies", "GPU-3")
    host.lose(2)
    parts = found(run("check", "--json", code=1))
    assert parts["gpu0"][0] == "note"
    assert "GPU-0; torch works; tensorflow does not work: this build has no CUDA" in parts["gpu0"][1]
    assert parts["gpu1"][0] == "fails"
    assert "torch does not work: its process ended (SIGABRT)" in parts["gpu1"][1]
    assert parts["gpu3"][0] == "note"
    assert parts["devices"][0] == "fails"
    assert "GPU 2: GPU is lost" in parts["devices"][1]
    monkeypatch.setenv("NIGHTSHIFT_FRAMEWORKS", "torch")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    parts = found(run("check", "--json"))
    assert parts["gpu0"] == ("ok", "NVIDIA Test (80.0 GB), GPU-0; torch works ")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert "'7' fits no GPU of this host" in found(run("check", "--json", code=1))["devices"][1]


def test_a_memory_limit_that_no_gpu_bears_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Host(tmp_path, card("GPU-0")).enter(monkeypatch)
    monkeypatch.setattr(doctor, "installed", lambda name: None)
    monkeypatch.setenv("NIGHTSHIFT_RUNNER_MEMORY_LIMIT_BYTES", "8000000000")
    parts = found(run("check", "--json", code=1))
    assert parts["devices"][0] == "fails"
    assert "address space" in parts["devices"][1]


def test_check_imports_no_framework(tmp_path: Path) -> None:
    code = (
        "import sys; from api.commands import doctor; doctor.run(sys.argv[1]);"
        "print([name for name in ('torch', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("declaration", "reason"),
    [
        ("import not_installed_anywhere", "No module named 'not_installed_anywhere'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("PROGRAM = 3", "leads to int"),
    ],
)
def test_programs_that_cannot_be_used_are_listed_and_fail_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, declaration: str, reason: str
) -> None:
    installed(tmp_path / "packages", monkeypatch)
    write_package(tmp_path / "packages", declaration=declaration)
    monkeypatch.setenv("NIGHTSHIFT_PROGRAMS", "walk,gone")
    programs._installed.cache_clear()
    items = json.loads(run("check", "--json").stdout)["items"]
    found = [(item["level"], item["detail"]) for item in items if item["part"] == "programs"]
    assert [level for level, _ in found] == ["note", "note"]
    assert found[0][1].startswith("walk cannot be used: ")
    assert reason in found[0][1]
    assert found[1][1] == "gone cannot be used: no installed package has a program of this name"
    programs._installed.cache_clear()


def test_a_program_that_can_be_used_is_listed(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed(tmp_path / "packages", monkeypatch)
    write_package(tmp_path / "packages")
    monkeypatch.setenv("NIGHTSHIFT_PROGRAMS", "walk")
    programs._installed.cache_clear()
    assert found(run("check", "--json"))["programs"][:2] == ("ok", "walk (nightshift-walk 1.0) ")
    programs._installed.cache_clear()


def test_families_that_cannot_be_used_are_listed_and_fail_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path / "packages", declaration="raise SystemExit(3)")
    offer(tmp_path / "packages", monkeypatch, "built-in,linear,gone")
    try:
        items = json.loads(run("check", "--json").stdout)["items"]
    finally:
        monkeypatch.undo()
        FAMILIES.forget()
    found = [(item["level"], item["detail"]) for item in items if item["part"] == "families"]
    assert found[0][0] == "ok"
    assert all(name in found[0][1] for name in ("cnn (nightshift ", "gan (", "gru_lm (", "text_classifier ("))
    assert found[1] == ("note", "linear cannot be used: linear_family:FAMILY cannot be imported: SystemExit: 3")
    assert found[2] == ("note", "gone cannot be used: no installed package has a family of this name")
