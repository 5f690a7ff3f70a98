"""What the API answers, as typed objects that are still dictionaries."""

from __future__ import annotations

import json

import pytest

from nightshift.client.resources import Dataset, Model, ModelVersion, Resource, Schedule, Webhook, Worker

MODEL = {
    "name": "digits",
    "family": "cnn",
    "latest_version": 2,
    "aliases": {"champion": 1},
    "versions": [
        {"name": "digits", "version": 2, "metrics": {}},
        {"name": "digits", "version": 1, "metrics": {"a": 1}},
    ],
}


def test_fields_are_attributes_and_keys() -> None:
    worker = Worker({"name": "cpu0@a", "state": "online", "job_id": None, "a_new_field": 1})
    assert worker.state == worker["state"] == "online"
    assert (worker.a_new_field, worker.job_id) == (1, None)
    assert json.loads(json.dumps(worker)) == dict(worker)
    assert "a_new_field" in dir(worker)


def test_a_field_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match="Worker has no field 'stat'; it has: name, state"):
        Worker({"name": "a", "state": "online"}).stat  # noqa: B018


@pytest.mark.parametrize(
    ("resource", "shown"),
    [
        (Worker({"name": "cpu0@a", "state": "online", "job_id": None}), "<Worker name='cpu0@a' state='online'>"),
        (Dataset({"name": "digits", "version": 1, "splits": {"train": {}}}), "<Dataset name='digits' version=1>"),
        (Model(MODEL), "<Model name='digits' family='cnn' latest_version=2 aliases={'champion': 1}>"),
        (Schedule({"name": "nightly", "cron": "0 2 * * *", "job": {}}), "<Schedule name='nightly' cron='0 2 * * *'>"),
        (Webhook({"name": "chat", "secret": "s", "enabled": False}), "<Webhook name='chat' enabled=False>"),
        (Resource(), "<Resource >"),
    ],
)
def test_reprs_are_short_and_hold_no_secret(resource: Resource, shown: str) -> None:
    assert repr(resource) == shown


def test_a_model_has_its_champion_and_versions() -> None:
    model = Model(MODEL)
    assert [version.version for version in model.versions] == [2, 1]
    assert model.champion is not None
    assert (model.champion.version, model.champion.metrics) == (1, {"a": 1})
    assert Model({**MODEL, "aliases": {}}).champion is None


def test_a_listed_model_has_its_champion_too() -> None:
    listed = Model({"name": "digits", "aliases": {"champion": 3}, "champion": {"version": 3, "metrics": {}}})
    assert listed.champion == ModelVersion(version=3, metrics={}, name="digits")
    assert Model({"name": "digits", "aliases": {}, "champion": None}).champion is None
