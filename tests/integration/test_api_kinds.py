"""What fine-tuning, inference and evaluation may ask of a model: every wrong combination is refused by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightshift.families.training import Training
from shared.datasets.registry import register
from shared.db.engine import write
from shared.jobs import transitions
from shared.jobs.transitions import ArtifactRecord, Lease, ModelVersionRecord
from shared.specs.examples import EXAMPLES
from shared.specs.families import FAMILIES
from tests.support.api import Api, assert_problem
from tests.support.dataset_files import labelled_images, npz
from tests.support.factories import claim_job, running_job

TASKS: dict[str, dict[str, Any]] = {
    "cnn": {"task": "predict"},
    "gru_lm": {"task": "generate", "prompts": [""]},
    "gan": {"task": "generate"},
}
#: Models that the examples of /docs name.
IN_EXAMPLES = {"digits": "cnn", "shakespeare": "gru_lm"}


@pytest.fixture
def models(api: Api, tmp_path: Path) -> Api:
    return with_models(api, tmp_path)


@pytest.fixture(scope="module")
def shared_models(shared_api: Api, tmp_path_factory: pytest.TempPathFactory) -> Api:
    return with_models(shared_api, tmp_path_factory.mktemp("texts"))


def with_models(api: Api, folder: Path) -> Api:
    """A registered model of each family, named like it, those of the examples, and a text to go with the digits."""
    for name, family in {"cnn": "cnn", "gru_lm": "gru_lm", "gan": "gan", **IN_EXAMPLES}.items():
        made(api, name, running_job(api.engine, model={"family": family}), family)
    text = folder / "tale.txt"
    text.write_text("the cats saw 2 dogs\n" * 2_000)
    register(api.engine, api.settings, "tale", text)
    short = text.with_name("short.txt")
    short.write_text("the cats saw 2 dogs\n" * 50)
    register(api.engine, api.settings, "short", short)
    return api


def made(api: Api, name: str, lease: Lease, family: str, **pinned: Any) -> None:
    """The job has succeeded, and its model is registered."""
    path = f"jobs/{lease.job_id}/model/model.safetensors"
    weights = ArtifactRecord("model/model.safetensors", path, "0" * 64, 1, "application/octet-stream")
    version = ModelVersionRecord(name=name, family=family, framework="torch")
    with write(api.engine) as conn:
        if pinned:
            transitions.pin(conn, lease, pinned)
        transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[weights], register=version)


def job(kind: str, model: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "model_ref": model, "dataset": "tale" if model == "gru_lm" else "digits", **fields}


def train(family: str, **training: Any) -> dict[str, Any]:
    return {"kind": "train", "model": {"family": family}, "dataset": "digits", "training": training}


def infer(model: str, **inference: Any) -> dict[str, Any]:
    return job("batch_infer", model, inference=inference)


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
@pytest.mark.parametrize("family", ["cnn", "gru_lm", "gan"])
def test_every_kind_takes_every_family_in_both_frameworks(models: Api, family: str, framework: str) -> None:
    for body in (
        job("finetune", family, framework=framework, freeze="features"),
        job("evaluate", family, framework=framework),
        infer(family, framework=framework, **TASKS[family]),
    ):
        answer = models.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        shown = models.get(answer.headers["location"]).json()
        assert (shown["family"], shown["framework"]) == (family, framework)


@pytest.mark.parametrize(
    ("body", "loc", "says"),
    [
        (infer("cnn", task="score"), ("inference", "task"), "use predict"),
        (infer("cnn", task="generate"), ("inference", "task"), "use predict"),
        (infer("gru_lm"), ("inference", "task"), "use score or generate"),
        (infer("gan", task="predict"), ("inference", "task"), "use generate"),
        (infer("gru_lm", task="generate"), ("inference", "prompts"), "at least one"),
        (infer("gan", task="generate", prompts=["a"]), ("inference", "prompts"), "use `count`"),
        (infer("cnn", prompts=["a"]), ("inference", "prompts"), "generate"),
        (infer("gan", task="generate", engine="onnxruntime"), ("inference", "engine"), "use auto or framework"),
        (infer("cnn", shards=0), ("inference", "shards"), "use a number from 1 to 64, or auto"),
        (infer("cnn", shards="two"), ("inference", "shards"), "use a number from 1 to 64, or auto"),
        (infer("cnn", batch_size=0), ("inference", "batch_size"), "use a number from 1 to 65536, or auto"),
        (infer("cnn", batch_size="all"), ("inference", "batch_size"), "use a number from 1 to 65536, or auto"),
        (infer("cnn", engine="openvino"), ("inference", "engine"), "'auto', 'framework' or 'onnxruntime'"),
        (
            job(
                "batch_infer", "cnn", dataset="digits", inference={"engine": "onnxruntime"}, resources={"device": "gpu"}
            ),
            ("inference", "engine"),
            "computes on a CPU",
        ),
        ({"kind": "batch_infer", "model_ref": "cnn"}, ("dataset",), "is required"),
        ({"kind": "evaluate", "model_ref": "cnn"}, ("dataset",), "is required"),
        ({"kind": "finetune", "model_ref": "cnn"}, ("dataset",), "is required"),
        (job("evaluate", "cnn", dataset="tale"), ("dataset",), "image data"),
        (job("finetune", "gru_lm", dataset="digits"), ("dataset",), "text data"),
        (job("batch_infer", "gru_lm", dataset="digits", inference={"task": "score"}), ("dataset",), "text data"),
        (job("finetune", "gru_lm", training={"augment": ["flip"]}), ("training", "augment", 0), "word_dropout"),
        (job("finetune", "gan", training={"augment": ["flip"]}), ("training", "augment", 0), "none"),
        (
            job("finetune", "cnn", training={"early_stopping": {"metric": "val_perplexity"}}),
            ("training", "early_stopping", "metric"),
            "val_accuracy",
        ),
        (job("finetune", "cnn", training={"momentum": 0.5}), ("training", "momentum"), "only sgd"),
        (
            job("finetune", "cnn", training={"optimizer": "sgd", "beta1": 0.5}),
            ("training", "beta1"),
            "sgd has no beta1, only adam, adamw; leave it out",
        ),
        (train("gan", optimizer="sgd", epsilon=1e-7), ("training", "epsilon"), "adam, adamw, rmsprop, adadelta"),
        (train("gan", nesterov=False), ("training", "nesterov"), "adam has no nesterov"),
        (job("finetune", "cnn", freeze="head"), ("freeze",), "features"),
        (job("finetune", "cnn", training={"batch_size": 5000}), ("training", "batch_size"), "at most"),
        (job("finetune", "gru_lm", dataset="short"), ("training", "batch_size"), "at most"),
        (job("finetune", "cnn@7"), ("model_ref",), "versions 1 to 1"),
        (job("evaluate", "nobody"), ("model_ref",), "models: cnn"),
    ],
)
def test_what_a_model_cannot_do_is_refused_with_what_it_can(
    shared_models: Api, body: dict[str, Any], loc: tuple[str | int, ...], says: str
) -> None:
    answer = shared_models.post("/v1/jobs", json=body)
    assert_problem(answer, 422, loc)
    assert says in answer.json()["errors"][0]["msg"]


def test_a_model_that_was_fine_tuned_has_the_windows_of_the_first(models: Api) -> None:
    shown = models.post("/v1/jobs", json=job("finetune", "gru_lm", priority=9)).json()
    parent = {"ref": "gru_lm", "folder": "", "name": "gru_lm", "version": 1}
    made(models, "tuned", claim_job(models.engine).lease, "gru_lm", parent=parent)
    answer = models.post("/v1/jobs", json={**shown["spec"], "model_ref": "tuned", "dataset": "short"})
    assert_problem(answer, 422, ("training", "batch_size"))
    assert "windows of 100" in answer.json()["errors"][0]["msg"]


def test_a_classifier_is_evaluated_on_classes_that_it_knows(models: Api, tmp_path: Path) -> None:
    images, labels = labelled_images()
    register(models.engine, models.settings, "shapes", npz(tmp_path / "shapes.npz", x=images, y=labels))
    made(models, "four", running_job(models.engine), "cnn", dataset="shapes@1")
    assert models.post("/v1/jobs", json=job("evaluate", "four", dataset="shapes")).status_code == 202
    answer = models.post("/v1/jobs", json=job("evaluate", "four"))
    assert_problem(answer, 422, ("dataset",))
    assert "does not know: 4, 5" in answer.json()["errors"][0]["msg"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_of_the_page_is_accepted(models: Api, name: str) -> None:
    answer = models.post("/v1/jobs", json=EXAMPLES[name]["value"])
    assert answer.status_code == 202, answer.text


def test_generating_needs_no_data_set(models: Api) -> None:
    body = {"kind": "batch_infer", "model_ref": "gan", "inference": {"task": "generate", "count": 3}}
    answer = models.post("/v1/jobs", json=body)
    assert answer.status_code == 202
    assert models.get(answer.headers["location"]).json()["dataset"] is None


def test_another_optimizer_than_the_preset_s_has_its_own_rate_and_constants(models: Api) -> None:
    for body in (train("gan", optimizer="sgd"), job("finetune", "gan", training={"optimizer": "sgd"})):
        training = models.post("/v1/jobs", json=body).json()["spec"]["training"]
        assert (training["learning_rate"], training["beta1"], training["lr_schedule"]) == (0.01, None, "cosine")


def test_finetuning_trains_as_the_family_does_where_nothing_is_said(models: Api) -> None:
    spec = models.post("/v1/jobs", json=job("finetune", "gan", training={"epochs": 2})).json()["spec"]
    own = FAMILIES["gan"].training_for(None)
    assert own["beta1"] != Training().beta1, "the example must have a default of its own to show anything"
    assert {name: spec["training"][name] for name in own} == {**own, "epochs": 2}


def test_a_divided_job_is_shown_with_its_shards_and_controls_them(models: Api) -> None:
    job_id = models.post("/v1/jobs", json=infer("cnn", shards=2)).json()["id"]
    shown = models.get(f"/v1/jobs/{job_id}").json()
    assert (shown["state"], shown["shards"], shown["shard"], shown["part_of"]) == ("waiting", 2, None, None)
    shards = models.get(f"/v1/jobs/{job_id}/shards").json()["items"]
    assert [(one["kind"], one["state"], one["shard"], one["part_of"]) for one in shards] == [
        ("shard", "queued", 1, job_id),
        ("shard", "queued", 2, job_id),
    ]
    assert job_id in {one["id"] for one in models.get("/v1/jobs").json()["items"]}
    assert {one["part_of"] for one in models.get("/v1/jobs").json()["items"]} == {None}
    listed = models.get("/v1/jobs", params={"kind": "shard"}).json()["items"]
    assert {one["id"] for one in listed} == {one["id"] for one in shards}
    shard = f"/v1/jobs/{shards[0]['id']}"
    for answer in (
        models.post(f"{shard}/cancel"),
        models.post(f"{shard}/rerun", json={}),
        models.send("PATCH", shard, json={"name": "mine"}),
        models.send("DELETE", shard),
    ):
        assert f"is a shard of job {job_id}" in assert_problem(answer, 409)["detail"]
    assert models.send("PATCH", f"/v1/jobs/{job_id}", json={"priority": 8}).json()["priority"] == 8
    assert models.post(f"/v1/jobs/{job_id}/pause").json()["state"] == "paused"
    assert models.post(f"/v1/jobs/{job_id}/resume").json()["state"] == "waiting"
    assert "its shards" in models.get(f"/v1/jobs/{job_id}/why").json()["sentence"]
    assert models.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert models.send("DELETE", f"/v1/jobs/{job_id}").status_code == 204
    assert models.get(shard).status_code == 404
