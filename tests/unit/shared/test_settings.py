from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nightshift.errors import ConfigurationError
from shared.settings import load_settings

SAFE = {
    "environment": "production",
    "database_url": "postgresql://nightshift:b3f1c7@db/nightshift",
    "redis_url": "redis://:9d42aa@redis:6379/0",
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("NIGHTSHIFT_", "FLOWER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_production_accepts_safe_settings() -> None:
    assert load_settings(**SAFE).environment == "production"


@pytest.mark.parametrize(
    ("unsafe", "said"),
    [
        ({"database_url": ""}, "NIGHTSHIFT_DATABASE_URL is SQLite"),
        ({"database_url": "sqlite:////srv/n.db"}, "NIGHTSHIFT_DATABASE_URL is SQLite"),
        ({"database_url": "postgresql://nightshift@db/n"}, "NIGHTSHIFT_DATABASE_URL has no password"),
        ({"database_url": "postgresql://n:postgres@db/n"}, "NIGHTSHIFT_DATABASE_URL has the password of an example"),
        ({"redis_url": "redis://redis:6379/0"}, "NIGHTSHIFT_REDIS_URL has no password"),
        ({"redis_url": "redis://:@redis:6379/0"}, "NIGHTSHIFT_REDIS_URL has no password"),
        ({"redis_url": "redis://:changeme@redis:6379/0"}, "NIGHTSHIFT_REDIS_URL has the password of an example"),
    ],
)
def test_production_refuses_what_is_only_safe_on_a_laptop(unsafe: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_settings(**SAFE | unsafe)
    load_settings(**SAFE | unsafe | {"environment": "development"})


@pytest.mark.parametrize("switch", ["NIGHTSHIFT_FAILPOINT", "FLOWER_UNAUTHENTICATED_API"])
def test_production_refuses_the_switches_of_tests(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(switch, "1")
    with pytest.raises(ConfigurationError, match=switch):
        load_settings(**SAFE)


def test_all_problems_are_named_at_once_and_no_secret_is_shown() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(
            environment="production", redis_url="redis://redis/0", database_url="postgresql://n:changeme@db/n"
        )
    assert "NIGHTSHIFT_REDIS_URL" in str(refused.value)
    assert "NIGHTSHIFT_DATABASE_URL" in str(refused.value)
    assert "changeme" not in str(refused.value)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_API_PORT", "80000")
    monkeypatch.setenv("NIGHTSHIFT_LEASE_SECONDS", "soon")
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert "NIGHTSHIFT_API_PORT: " in str(refused.value)
    assert "NIGHTSHIFT_LEASE_SECONDS: " in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lease_seconds": 10, "heartbeat_seconds": 5}, "NIGHTSHIFT_HEARTBEAT_SECONDS"),
        ({"storage_url": "s3://Not A Bucket"}, "NIGHTSHIFT_STORAGE_URL"),
        ({"storage_url": "file://relative"}, "NIGHTSHIFT_STORAGE_URL"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_settings(**wrong)


def test_a_bucket_has_a_cache_beside_the_folder_that_storage_would_be(tmp_path: Path) -> None:
    bucket = load_settings(data_dir=tmp_path, storage_url="s3://my-bucket/night/shift")
    assert bucket.storage_root == tmp_path / "storage-cache"
    assert load_settings(data_dir=tmp_path).storage_root == tmp_path / "storage"


def test_credentials_do_not_belong_into_the_address_of_a_store() -> None:
    with pytest.raises(ConfigurationError, match="NIGHTSHIFT_STORAGE_ENDPOINT_URL") as refused:
        load_settings(storage_endpoint_url="https://key:secret@minio.internal")
    assert "secret" not in str(refused.value)
