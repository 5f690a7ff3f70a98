from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from api.flower import config
from api.flower.attempts import Description, describe
from api.flower.auth import KNOWN_SECONDS, KeyCheck, password_of
from nightshift.errors import ConfigurationError
from shared.fleet.keys import Principal


def basic(text: str | bytes) -> str:
    return "Basic " + base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "password"),
    [
        (basic("nightshift:key"), "key"),
        (basic("nightshift:a:b"), "a:b"),
        (basic("nightshift:clé"), "clé"),
        (basic("other:key"), None),
        (basic("nightshift"), None),
        (basic(b"nightshift:\xff\xfe"), None),
        ("Basic not-base64!", None),
        ("Bearer key", None),
        ("", None),
    ],
)
def test_only_our_user_has_a_password(header: str, password: str | None) -> None:
    assert password_of(header) == password


def test_a_good_key_is_remembered_for_a_moment_and_a_bad_one_never() -> None:
    asked: list[str] = []
    good, time = {"good"}, [0.0]

    def verify(key: str) -> Principal | None:
        asked.append(key)
        return Principal("id", "owner", key) if key in good else None

    check = KeyCheck(verify, now=lambda: time[0])
    owner = Principal("id", "owner", "good")
    assert [check("good"), check("good"), check("bad"), check("bad")] == [owner, owner, None, None]
    assert asked == ["good", "bad", "bad"]
    good.clear()
    time[0] = KNOWN_SECONDS + 1
    assert not check("good")
    assert not check("\udc80 lone surrogate")


def test_an_open_api_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="FLOWER_UNAUTHENTICATED_API"):
        config.refuse_unsafe({"FLOWER_UNAUTHENTICATED_API": "true"})
    config.refuse_unsafe({})


def test_the_cookie_secret_is_private_and_stays_the_same(tmp_path: Path) -> None:
    first = config.cookie_secret(tmp_path / "data")
    path = tmp_path / "data" / "flower_cookie_secret"
    assert config.cookie_secret(tmp_path / "data") == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    with pytest.raises(ConfigurationError, match="flower_cookie_secret"):
        config.cookie_secret(tmp_path / "data")


ROW = {
    "id": "1a2b3c4d5e6f7081", "name": "digits nightly", "kind": "train", "family": "cnn", "framework": "torch",
    "dataset": "digits", "spec": {"model": {"preset": "mnist-3conv"}}, "progress": {"percent": 41.7, "loss": 0.31234},
    "fence": 2, "latest": 2, "outcome": None,
}  # fmt: skip


def test_an_attempt_is_described_by_its_job_work_and_progress() -> None:
    assert describe(ROW) == Description(
        "digits nightly · 1a2b3c4d #2", "train cnn/mnist-3conv (torch) on digits", "42% · loss 0.3123"
    )


def test_an_attempt_shows_its_own_standing_only() -> None:
    assert describe(ROW | {"outcome": "lost", "fence": 1}).status == "lost"
    assert describe(ROW | {"outcome": "cancelled"}).status == "cancelled · 42% · loss 0.3123"
    assert describe(ROW | {"fence": 1}).status == ""
    assert describe(ROW | {"progress": None}).status == ""


def test_a_job_by_model_ref_without_a_name() -> None:
    row = ROW | {"name": None, "kind": "batch_infer", "family": None, "framework": None, "spec": {"model_ref": "m@3"}}
    assert describe(row) == Description("1a2b3c4d #2", "batch_infer m@3 on digits", "42% · loss 0.3123")
