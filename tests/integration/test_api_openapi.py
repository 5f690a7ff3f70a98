"""The OpenAPI page: examples that can be pasted, problems at every route, and a server that does what it says."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.route import Route
from nightshift.names import KINDS
from nightshift.states import JobState
from shared.specs.examples import EXAMPLES
from shared.specs.jobs import job_spec_adapter
from tests.support.api import Api, assert_problem
from tests.support.factories import job_in_state

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    answer: dict[str, Any] = api.http.get("/openapi.json").json()
    return answer


def _job_content(document: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    return content


def test_every_example_shown_is_accepted(api: Api, document: dict[str, Any]) -> None:
    content = _job_content(document)
    validator = jsonschema_rs.validator_for({**content["schema"], "components": document["components"]})
    assert len(content["examples"]) >= 2
    for name, example in content["examples"].items():
        validator.validate(example["value"])
        answer = api.post("/v1/jobs", json=example["value"])
        if "model_ref" not in example["value"]:
            assert answer.status_code == 202, (name, answer.text)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_a_spec(name: str) -> None:
    """Also those of kinds that no worker runs yet."""
    job_spec_adapter.validate_python(EXAMPLES[name]["value"])


def test_the_page_shows_only_kinds_that_run(document: dict[str, Any]) -> None:
    content = _job_content(document)
    assert set(content["schema"]["discriminator"]["mapping"]) == set(KINDS)
    assert {example["value"]["kind"] for example in content["examples"].values()} <= set(KINDS)


def test_the_page_can_be_opened(api: Api) -> None:
    page = api.http.get("/docs")
    assert page.status_code == 200
    assert "/openapi.json" in page.text


def test_every_reference_in_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> Any:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            if "mapping" in node.get("discriminator", {}):
                yield from node["discriminator"]["mapping"].values()
            for child in node.values():
                yield from references(child)
        elif isinstance(node, list):
            for child in node:
                yield from references(child)

    found = set(references(document))
    assert "#/components/schemas/Problem" in found
    for reference in found:
        assert reference.rpartition("/")[2] in document["components"]["schemas"], reference


def test_every_route_is_described_with_its_problems(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert route["tags"], (method, path)
            assert route["summary"], (method, path)
            for status, response in route["responses"].items():
                assert response["description"], (path, status)
                if status >= "400":
                    assert list(response["content"]) == ["application/problem+json"], (path, status)
            if path.startswith("/v1"):
                assert {"401", "422", "503"} <= set(route["responses"]), path
                assert route["security"] == [{"api_key": []}], path
            if "{" in path:
                assert "404" in route["responses"], path


PARTS = {
    "job_id": "0123456789abcdef",
    "name": "digits",
    "alias": "best",
    "version": "1",
    "schedule": "nightly",
    "sweep_id": "0123456789abcdef",
    "webhook": "chat",
}


def test_every_json_body_is_a_parameter_that_is_parsed_strictly(api: Api, document: dict[str, Any]) -> None:
    """The schema shown is the one that is checked, whichever route it is."""
    with_body = [
        (method, path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]
    routes = {(method.lower(), route.path): route for route in api.app.state.routes for method in route.methods}
    assert len(with_body) >= 12
    for method, path in with_body:
        route, address = routes[method, path], path.format(**PARTS)
        assert isinstance(route, Route), path
        assert route.body_field is not None, path
        assert route.openapi_extra is None, path
        twice = api.send(method, address, content=b'{"a": 1, "a": 2}', headers={"Content-Type": "application/json"})
        assert_problem(twice, 422, ("a",))
        assert_problem(api.send(method, address, content=b"{}", headers={"Content-Type": "text/plain"}), 415)
        assert_problem(api.send(method, address, json=[1]), 422, ())
        unknown = api.send(method, address, json={"nonsense": 1})
        assert unknown.status_code == 422, path
        assert {"400", "413", "415"} <= set(document["paths"][path][method]["responses"]), path


@pytest.mark.slow
@pytest.mark.parametrize("examples", [5, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_generated_requests_get_only_documented_answers(api: Api, mode: GenerationMode, examples: int) -> None:
    """Well- and ill-formed requests for every operation, made from its schema; the same ones at each run."""
    asked: dict[str, int] = {}
    job_id = job_in_state(api.engine, JobState.SUCCEEDED)

    def run(operation: Any) -> None:
        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            asked[operation.label] = asked.get(operation.label, 0) + 1
            if mode is GenerationMode.POSITIVE and "job_id" in case.path_parameters:
                case.path_parameters["job_id"] = job_id  # one that is there
            case.call_and_validate(headers={"Authorization": f"Bearer {api.key}"}, checks=CHECKS)

        with suppress(Unsatisfiable):  # nothing can be wrong with a request that has no parameters
            ask()

    for result in schemathesis.openapi.from_asgi("/openapi.json", api.app).get_all_operations():
        run(result.ok())
    assert sum(asked.values()) > 150
    assert asked["POST /v1/jobs"] >= 5
