"""The layers of models on Flower's pages: in the form, of a job, of a version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from api.services.spec_form_schema import forms, model_fields
from shared.datasets import registry
from shared.db.engine import write
from shared.jobs import transitions
from shared.jobs.transitions import ArtifactRecord, NewJob
from shared.specs.families import FAMILIES
from shared.specs.jobs import MAX_BATCH, MAX_SHARDS, job_spec_adapter
from tests.support.factories import claim_job
from tests.support.flower_app import FlowerApp, running_flower_app

LM = {"kind": "train", "model": {"family": "gru_lm", "units": [4], "embedding": 3}, "dataset": "tale"}
WRITTEN = {"rows": "layers", "layers": [], "parameters": 7, "fixed": 0, "bytes": 28, "facts": {}}


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path) -> Iterator[FlowerApp]:
    with running_flower_app(sqlite_engine, tmp_path) as found:
        yield found


def submitted(flower: FlowerApp, body: dict[str, Any], owner: str | None = None) -> str:
    with write(flower.engine) as conn:
        spec = job_spec_adapter.validate_python(body)
        return transitions.submit(conn, NewJob(owner_id=owner or flower.owner, spec=spec)).job_id


def finished(flower: FlowerApp, folder: Path, *names: str) -> str:
    """A job that left these files with its model, and registered it."""
    submitted(flower, LM)
    lease = claim_job(flower.engine).lease
    stored, records = f"jobs/{lease.job_id}/attempts/1/artifacts/model", []
    (folder / "storage" / stored).mkdir(parents=True)
    for name in names:
        (folder / "storage" / stored / name).write_text(json.dumps(WRITTEN))
        records.append(ArtifactRecord(f"model/{name}", f"{stored}/{name}", "a" * 64, 10, "application/json"))
    with write(flower.engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=records)
    assert flower.post("/models/tales/register", {"job": lease.job_id}).status_code == 200
    return lease.job_id


def test_the_form_asks_as_the_api_answers(flower: FlowerApp) -> None:
    answer = flower.post("/jobs/layers", {"model": LM["model"]})
    assert (answer.status_code, answer.json()["parameters"]) == (200, 10_000 * 3 + 3 * 4 * (3 + 4 + 2) + 10_000 * 5)
    wrong = flower.post("/jobs/layers", {"model": {"family": "gru_lm", "units": [4, 0]}})
    assert (wrong.status_code, wrong.json()["errors"][0]["loc"]) == (422, ["model", "units", 1])
    assert flower.post("/jobs/layers", {"model": "cnn"}).status_code == 422
    assert flower.post("/jobs/layers", {}).json()["errors"][0]["loc"] == ["model"]


def test_a_waiting_job_shows_the_layers_of_its_spec(flower: FlowerApp) -> None:
    waiting = submitted(flower, LM)
    shown = flower.data(f"/jobs/{waiting}/layers")
    assert [one["name"] for one in shown["layers"]] == ["embedding", "gru0", "output"]
    assert shown["dataset"] is None, "its data set does not exist"
    theirs = submitted(flower, LM, owner="somebody else")
    assert flower.client.get(f"/nightshift/jobs/{theirs}/layers").status_code == 404


def test_a_finished_job_and_its_version_show_what_was_written(flower: FlowerApp, tmp_path: Path) -> None:
    job_id = finished(flower, tmp_path, "model.safetensors", "summary.json")
    assert flower.data(f"/jobs/{job_id}/layers") == WRITTEN
    assert flower.data("/models/tales/versions/1/layers") == WRITTEN
    assert flower.data("/models/tales/versions/champion/layers") == WRITTEN
    assert flower.client.get("/nightshift/models/tales/versions/2/layers").status_code == 404


def test_a_version_of_an_older_build_says_that_it_has_none(flower: FlowerApp, tmp_path: Path) -> None:
    job_id = finished(flower, tmp_path, "model.safetensors")
    shown = flower.data("/models/tales/versions/1/layers")
    assert (shown["layers"], "has no summary" in shown["error"]) == (None, True)
    assert flower.data(f"/jobs/{job_id}/layers")["rows"] == "layers", "those of its spec"


def test_a_model_that_is_not_in_the_spec_has_layers_later(flower: FlowerApp) -> None:
    job_id = submitted(flower, {"kind": "finetune", "model_ref": "tales", "dataset": "tale"})
    shown = flower.data(f"/jobs/{job_id}/layers")
    assert (shown["layers"], "when the job has succeeded" in shown["error"]) == (None, True)


def test_a_data_set_is_offered_to_the_families_that_can_learn_from_it(flower: FlowerApp, tmp_path: Path) -> None:
    (tmp_path / "tale.txt").write_text("once upon a time\n" * 50)
    (tmp_path / "animals.csv").write_text("legs,kind\n" + "4,cat\n2,bird\n" * 20)
    registry.register(flower.engine, flower.settings, "tale", tmp_path / "tale.txt")
    registry.register(flower.engine, flower.settings, "animals", tmp_path / "animals.csv", kind="table")
    page = flower.client.get("/nightshift/jobs/new").text
    data = json.loads(page.partition('id="ns-data">')[2].partition("</script>")[0])
    found = {one["name"]: one for one in data["datasets"]}
    kinds = {name: family.dataset_kind for name, family in FAMILIES.items()}
    assert found["digits"]["families"] == [name for name, kind in kinds.items() if kind == "image"]
    assert "gru_lm" in found["tale"]["families"]
    assert not {"text_classifier", "tagger"} & set(found["tale"]["families"]), "it has neither classes nor tags"
    assert found["animals"]["families"] == [name for name, kind in kinds.items() if kind == "table"]
    assert found["animals"]["columns"] == ["legs", "kind"]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_setting_of_a_model_has_a_fitting_input(name: str) -> None:
    family = FAMILIES[name]
    fields = {field["path"].partition(".")[2]: field for field in model_fields(family)}
    assert list(fields) == [one for one in family.model.model_fields if one not in ("family", "framework", "preset")]
    for preset in family.presets.values():
        for setting, value in preset.items():
            kind, entry = fields[setting]["type"], value[0] if isinstance(value, list | tuple) and value else None
            if kind == "enum":
                assert value in fields[setting]["enum"] or (value is None and fields[setting]["nullable"])
            elif entry is not None:
                assert kind == ("lines" if isinstance(entry, str) else "list")
                types = {bool: "boolean", int: "integer", float: "number", str: "string"}
                assert fields[setting]["items"] == types[type(entry)]


def test_lists_of_a_job_are_edited_too() -> None:
    fields = {field["path"]: field for kind in forms().values() for field in kind}
    assert fields["training.augment"]["type"] == "lines"
    assert fields["inference.prompts"]["type"] == "lines"


@pytest.mark.parametrize(("name", "default", "most"), [("shards", 1, MAX_SHARDS), ("batch_size", "auto", MAX_BATCH)])
def test_shards_and_batch_of_an_inference_are_a_number_or_auto(name: str, default: int | str, most: int) -> None:
    [field] = [field for field in forms()["batch_infer"] if field["path"] == f"inference.{name}"]
    assert (field["type"], field["nullable"], field["default"]) == ("count", False, default)
    assert (field["minimum"], field["maximum"]) == (1, most)
