"""The model registry: versions, aliases, references."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from nightshift.errors import Conflict, InvalidRequest, NotFound
from shared.db.engine import read, write
from shared.jobs import transitions
from shared.jobs.transitions import ArtifactRecord, ModelVersionRecord, NewJob
from shared.models import aliases, registry
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import OWNER, claim_job, running_job, submit_job


def trained(engine: Engine, name: str | None = None, accuracy: float = 0.9) -> str:
    """A job that left a model, registered under `name` if there is one."""
    lease = running_job(engine)
    stored = f"jobs/{lease.job_id}/attempts/1/artifacts/model/model.safetensors"
    weights = ArtifactRecord("model/model.safetensors", stored, "a" * 64, 10, "application/octet-stream")
    register = ModelVersionRecord(name, "cnn", "torch", "digits@1", metrics={"a": accuracy}) if name else None
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={}, artifacts=[weights], register=register)
    return lease.job_id


def test_every_kind_of_reference_leads_to_its_job(engine: Engine) -> None:
    first, second = trained(engine, "digits"), trained(engine, "digits")
    with write(engine) as conn:
        aliases.set_alias(conn, "digits", "candidate", 2)
    expected = {
        "digits": first,
        "digits@champion": first,
        "digits@1": first,
        "digits@2": second,
        "digits@candidate": second,
        f"job:{second}": second,
        f"job:{second[:9]}": second,
    }
    with read(engine) as conn:
        found = {reference: registry.resolve(conn, reference, OWNER) for reference in expected}
    assert {reference: model.job_id for reference, model in found.items()} == expected
    assert found["digits"].folder == f"jobs/{first}/attempts/1/artifacts/model"
    assert (found["digits"].family, found["digits"].framework, found["digits"].version) == ("cnn", "torch", 1)
    assert found[f"job:{second}"].family == "cnn"


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("nothing", "models: digits"),
        ("digits@9", "versions 1 to 1"),
        ("digits@best", "aliases champion"),
        ("digits@99999999999999999999", "versions 1 to 1"),
        ("job:ffff", "no such job"),
    ],
)
def test_a_reference_that_leads_nowhere_says_what_there_is(engine: Engine, reference: str, hint: str) -> None:
    trained(engine, "digits")
    with pytest.raises(InvalidRequest, match=hint) as caught, read(engine) as conn:
        registry.resolve(conn, reference, OWNER)
    assert caught.value.errors[0].loc == ("model_ref",)


def test_a_job_without_a_model_is_no_reference(engine: Engine) -> None:
    job_id = submit_job(engine).job_id
    with pytest.raises(InvalidRequest, match="queued"), read(engine) as conn:
        registry.resolve(conn, f"job:{job_id}", OWNER)


def test_another_owners_job_is_no_reference(engine: Engine) -> None:
    job_id = trained(engine)
    with pytest.raises(InvalidRequest, match="no such job"), read(engine) as conn:
        registry.resolve(conn, f"job:{job_id}", "somebody-else")


def test_an_alias_points_at_versions_that_exist(engine: Engine) -> None:
    trained(engine, "digits")
    with pytest.raises(NotFound), write(engine) as conn:
        aliases.set_alias(conn, "digits", "champion", 2)


def test_models_are_listed_with_their_champion(engine: Engine) -> None:
    first = trained(engine, "digits", 0.9)
    trained(engine, "digits", 0.8)
    trained(engine, "letters")
    with read(engine) as conn:
        listed = {model["name"]: model for model in registry.list_models(conn)}
        shown = registry.show_model(conn, "digits")
        with pytest.raises(NotFound):
            registry.show_model(conn, "nothing")
    assert set(listed) == {"digits", "letters"}
    assert listed["digits"]["champion"] == {"version": 1, "job_id": first, "metrics": {"a": 0.9}}
    assert (listed["digits"]["latest_version"], listed["digits"]["aliases"]) == (2, {"champion": 1})
    assert [version["version"] for version in shown["versions"]] == [2, 1]


def test_an_alias_comes_back_step_by_step_and_each_is_audited(engine: Engine) -> None:
    for _ in range(3):
        trained(engine, "digits")
    with write(engine) as conn:
        assert [aliases.set_alias(conn, "digits", "champion", version) for version in (2, 3, 3)] == [1, 2, 3]
        assert [aliases.rollback(conn, "digits", "champion", who=OWNER, why="drift") for _ in range(2)] == [
            (3, 2),
            (2, 1),
        ]
        with pytest.raises(Conflict):
            aliases.rollback(conn, "digits", "champion")
        aliases.delete_version(conn, "digits", 2)
        with pytest.raises(Conflict, match="'champion'"):
            aliases.delete_version(conn, "digits", 1)
        changes = aliases.history(conn, "digits").items
    told = [(item["change"], item["from_version"], item["to_version"]) for item in reversed(changes)]
    assert told == [
        ("set", None, 1),
        ("set", 1, 2),
        ("set", 2, 3),
        ("rollback", 3, 2),
        ("rollback", 2, 1),
        ("delete", 2, None),
    ]
    assert (changes[1]["who"], changes[1]["why"]) == (OWNER, "drift")
    assert trained(engine, "digits")
    with read(engine) as conn:
        assert [version["version"] for version in registry.show_model(conn, "digits")["versions"]] == [4, 3, 1]


def test_a_running_job_holds_the_version_it_began_with(engine: Engine) -> None:
    trained(engine, "digits")
    trained(engine, "digits")
    spec = {"kind": "evaluate", "model_ref": "digits", "dataset": "digits"}
    with write(engine) as conn:
        transitions.submit(conn, NewJob(OWNER, job_spec_adapter.validate_python(spec)))
    lease = claim_job(engine).lease
    with write(engine) as conn:
        transitions.pin(conn, lease, {"parent": {"ref": "digits", "name": "digits", "version": 1}})
        aliases.set_alias(conn, "digits", "champion", 2)
        with pytest.raises(Conflict, match=lease.job_id):
            aliases.delete_version(conn, "digits", 1)
