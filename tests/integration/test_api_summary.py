"""Summaries of models over HTTP, before anything is trained."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from shared.datasets import registry
from shared.specs.families import FAMILIES
from shared.specs.summaries import EXAMPLES
from tests.support.api import Api, assert_problem, running_api
from tests.support.dataset_files import npz
from tests.support.own_family import DECLARATION, offer, write_family

#: Layers of the package's family.
LAYERS = """
    def expected_facts(self, summary):
        return {"classes": list("0123456789") if summary is None else summary["classes"]}

    def layers(self, facts):
        height, width = self.image_size
        classes = len(facts["classes"])
        return [Layer("output", "dense, softmax", (classes,), classes * (height * width * self.image_channels + 1))]
"""
LAYERED = DECLARATION.replace("Framework, ImageSize,", "Framework, ImageSize, Layer,").replace(
    "    image_channels: Literal[1, 3]\n", "    image_channels: Literal[1, 3]\n" + LAYERS
)
FAILING = LAYERED.replace("height, width = self.image_size", "raise RuntimeError('no layers today')")


@pytest.fixture
def api(
    sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Api]:
    write_family(tmp_path / "packages", declaration=getattr(request, "param", LAYERED))
    offer(tmp_path / "packages", monkeypatch, "built-in,linear")
    with running_api(sqlite_engine, tmp_path) as found:
        yield found
    monkeypatch.undo()
    FAMILIES.forget()


def ask(api: Api, dataset: str | None = None, **model: Any) -> Any:
    return api.post("/v1/families/summary", json={"model": model} | ({"dataset": dataset} if dataset else {}))


def summary(api: Api, dataset: str | None = None, **model: Any) -> dict[str, Any]:
    answer = ask(api, dataset, **model)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_preset_has_its_layers_in_order(api: Api) -> None:
    found = summary(api, family="gru_lm")
    assert [one["name"] for one in found["layers"]] == ["embedding", "gru0", "gru1", "output"]
    assert found["layers"][1] == {
        "name": "gru0", "kind": "GRU, dropout 0.1", "shape": [100, 512], "parameters": 3 * 512 * (256 + 512 + 2),
        "fixed": 0,
    }  # fmt: skip
    assert found["parameters"] == sum(one["parameters"] for one in found["layers"])
    assert found["bytes"] == 4 * found["parameters"]
    assert found["facts"] == {"vocabulary": 10_000}
    assert (found["rows"], found["error"], found["dataset"]) == ("layers", None, None)
    assert found["model"]["units"] == [512, 512]


def test_fields_override_the_preset(api: Api) -> None:
    found = summary(api, family="gru_lm", units=[8], embedding=4, vocabulary_size=20, framework="tensorflow")
    assert [one["shape"] for one in found["layers"]] == [[100, 4], [100, 8], [100, 20]]
    assert found["framework"] == "tensorflow"


def test_a_data_set_gives_its_facts(api: Api, tmp_path: Path) -> None:
    images = npz(tmp_path / "three.npz", x=np.zeros((9, 6, 6), np.uint8), y=np.arange(9) % 3)
    registry.register(api.engine, api.settings, "three", images)
    assert summary(api, family="linear")["parameters"] == 10 * 785
    found = summary(api, "three", family="linear")
    assert (found["parameters"], found["dataset"]) == (3 * 785, "three@1")
    assert found["facts"] == {"classes": ["0", "1", "2"]}


def test_a_built_in_set_that_no_worker_has_registered_is_supposed_to_be_typical(api: Api) -> None:
    found = summary(api, "mnist", family="linear")
    assert (found["parameters"], found["dataset"]) == (10 * 785, "mnist")


@pytest.mark.parametrize(
    ("model", "loc", "message"),
    [
        ({"family": "nothing"}, ("model", "family"), "unknown family; families: cnn, gan, gru_lm"),
        ({"family": "gru_lm", "preset": "huge"}, ("model", "preset"), "unknown preset; presets of gru_lm: gru-2x512"),
        ({"family": "gru_lm", "unit": [3]}, ("model", "unit"), "did you mean 'units'?"),
        ({"family": "gru_lm", "units": [0]}, ("model", "units", 0), "greater than or equal to 1"),
        ({"family": "gru_lm", "units": "512"}, ("model", "units"), "valid list"),
        ({"family": "gan", "image_size": [4, 4], "generator_filters": [2, 2, 2]}, ("model",), "too small"),
        ({"family": "linear", "framework": "tensorflow"}, ("model", "framework"), "use one of torch"),
    ],
    ids=str,
)
def test_what_a_job_would_be_refused_for_is_refused(
    api: Api, model: dict[str, Any], loc: tuple[str | int, ...], message: str
) -> None:
    problem = assert_problem(ask(api, **model), 422, loc)
    job = api.post("/v1/jobs", json={"kind": "train", "dataset": "digits", "model": model}).json()
    assert problem["errors"] == job["errors"]
    assert message in problem["errors"][0]["msg"]


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ("model",)),
        ({"model": {"family": "gru_lm"}, "dataset": "nothing"}, ("dataset",)),
        ({"model": {"family": "gru_lm"}, "dataset": "digits"}, ("dataset",)),
        ({"model": {"family": "gru_lm"}, "dataset": "a b"}, ("dataset",)),
        ({"model": {"family": "gru_lm"}, "data": "digits"}, ("data",)),
        ({"model": {"family": "cnn", "output": "sigmoid"}, "dataset": "digits"}, ("model", "output")),
    ],
    ids=str,
)
def test_a_wrong_request_names_its_field(api: Api, body: dict[str, Any], loc: tuple[str, ...]) -> None:
    assert_problem(api.post("/v1/families/summary", json=body), 422, loc)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_answered(api: Api, example: str) -> None:
    assert api.post("/v1/families/summary", json=EXAMPLES[example]["value"]).status_code == 200


def test_it_is_documented_with_its_examples(api: Api) -> None:
    document = api.get("/openapi.json").json()
    route = document["paths"]["/v1/families/summary"]["post"]
    assert set(route["requestBody"]["content"]["application/json"]["examples"]) == set(EXAMPLES)
    assert document["components"]["schemas"]["ModelSummaryView"]["properties"]["parameters"]["description"]


@pytest.mark.parametrize(
    ("api", "message"),
    [
        (DECLARATION, "declares no layers; a job lists its weights"),
        (FAILING, "layers() of the family linear failed: RuntimeError: no layers today"),
    ],
    indirect=["api"],
    ids=["none", "failing"],
)
def test_a_family_without_layers_says_why(api: Api, message: str) -> None:
    found = summary(api, family="linear")
    assert (found["layers"], found["parameters"], found["bytes"]) == (None, None, None)
    assert message in found["error"]


def test_a_key_is_needed(api: Api) -> None:
    answer = api.http.post("/v1/families/summary", json={"model": {"family": "cnn"}})
    assert answer.status_code == 401


def test_no_framework_is_imported() -> None:
    """In a new interpreter, because this one may have it for other tests."""
    code = (
        "import sys\n"
        "from api.services.model_summary import described\n"
        "from shared.specs.families import FAMILIES\n"
        "for family in FAMILIES.values():\n"
        "    for preset in family.presets:\n"
        "        model = family.model.model_validate({'preset': preset})\n"
        "        assert described(model, None)['error'] is None, family.name\n"
        "print([name for name in ('torch', 'tensorflow', 'keras') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
