"""docker-compose.yml is checked as text: names that exist, safe settings, health checks. No docker is needed."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from typing import Any

import pytest
import yaml

from nightshift.cli.registry import COMMANDS
from shared.settings import Settings
from tests.support.paths import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
LONG_RUNNING = [name for name in SERVICES if name != "migrate"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_has_every_process_of_production() -> None:
    assert set(SERVICES) == {
        "redis", "postgres", "migrate", "api", "worker-torch", "worker-tensorflow", "worker-cpu", "beat", "flower",
    }  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_runs_a_command_that_exists(name: str) -> None:
    program, command, *_ = SERVICES[name]["command"]
    assert program == "nightshift"
    assert COMMANDS[command].is_process


@pytest.mark.parametrize("name", OURS)
def test_sets_only_settings_that_exist_and_is_in_production(name: str) -> None:
    names = {variable for variable in SERVICES[name]["environment"] if variable.startswith("NIGHTSHIFT_")}
    known = {f"NIGHTSHIFT_{field.upper()}" for field in Settings.model_fields}
    assert names <= known
    assert SERVICES[name]["environment"]["NIGHTSHIFT_ENVIRONMENT"] == "production"


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_a_service_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICES[name]["environment"].items():
        with_defaults = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value)
        monkeypatch.setenv(variable, re.sub(r"\$\{[A-Z_]+:\?[^}]*\}", "a-chosen-password", with_defaults))
    assert Settings(_env_file=None).environment == "production"  # type: ignore[call-arg]


@pytest.mark.parametrize("name", OURS)
def test_is_not_root_and_cannot_become_it(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    target = DOCKERFILE.split(f"AS {service['build']['target']}\n")[1].split("\nFROM ")[0]
    assert "\nUSER nightshift\n" in target


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", OURS)
def test_a_health_check_in_python_names_a_module_that_exists(name: str) -> None:
    test = SERVICES[name].get("healthcheck", {}).get("test", [])
    if "-m" in test:
        assert importlib.util.find_spec(test[test.index("-m") + 1]) is not None


@pytest.mark.parametrize("name", list(SERVICES))
def test_ports_are_published_on_loopback_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_ours_wait_for_healthy_servers_and_the_migration() -> None:
    for name in OURS:
        conditions = {server: wait["condition"] for server, wait in SERVICES[name]["depends_on"].items()}
        assert conditions["postgres"] == "service_healthy"
        if name != "migrate":
            assert conditions["redis"] == "service_healthy"
            assert conditions["migrate"] == "service_completed_successfully"


def test_redis_keeps_what_it_is_told_and_wants_a_password() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert '--requirepass "$$REDIS_PASSWORD"' in command
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


GPU_WORKERS = {"worker-torch": "torch", "worker-tensorflow": "tensorflow"}


def test_only_the_gpu_workers_reserve_gpus() -> None:
    reserved = {name: service["deploy"] for name, service in SERVICES.items() if "deploy" in service}
    assert set(reserved) == set(GPU_WORKERS)
    for deploy in reserved.values():
        (device,) = deploy["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def stage(target: str) -> str:
    return DOCKERFILE.split(f" AS {target}\n")[1].partition("\nFROM ")[0]


@pytest.mark.parametrize(("name", "framework"), GPU_WORKERS.items())
def test_a_gpu_image_has_one_framework_with_its_cuda_libraries(name: str, framework: str) -> None:
    """The CUDA libraries of both do not fit into one environment."""
    built = stage(SERVICES[name]["build"]["target"])
    assert f"\nENV NIGHTSHIFT_FRAMEWORKS={framework}\n" in built
    (extras,) = re.findall(r"'\.\[(.*)\]'", built)
    assert extras.split(",") == [{"torch": "torch", "tensorflow": "tensorflow-gpu"}[framework], "s3"]
    assert SERVICES[name]["command"] == ["nightshift", "worker", "--device", "gpu"]
    assert "TORCH_CPU_INDEX" not in str(SERVICES[name]["build"])


def test_tensorflow_for_gpus_brings_its_cuda_libraries() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert any(needed.startswith("tensorflow[and-cuda]") for needed in extras["tensorflow-gpu"])
    assert not any("torch" in needed for needed in extras["tensorflow-gpu"])


def test_the_cpu_image_takes_wheels_without_cuda() -> None:
    """pip reads the argument; it has to stand before the installation."""
    assert SERVICES["worker-cpu"]["build"]["args"]["PIP_EXTRA_INDEX_URL"] == "${TORCH_CPU_INDEX:-}"
    assert re.search(r"^TORCH_CPU_INDEX=https://.*/whl/cpu$", (ROOT / ".env.example").read_text(), re.M)
    declared, _, installed = stage("worker-cpu").partition("\nRUN pip install")
    assert "\nARG PIP_EXTRA_INDEX_URL" in declared
    assert "cuda" not in installed
    assert "gpu" not in installed


def test_each_worker_has_an_image_of_its_own() -> None:
    images = [SERVICES[name]["image"] for name in (*GPU_WORKERS, "worker-cpu")]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("name", [*GPU_WORKERS, "worker-cpu"])
def test_a_worker_has_time_to_drain(name: str) -> None:
    fields = Settings.model_fields
    needed = fields["drain_seconds"].default + fields["stop_grace_seconds"].default
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > needed


def test_secrets_come_from_the_env_file_and_the_example_has_none() -> None:
    example = dict(
        line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if re.match(r"[A-Z_]+=", line)
    )
    used = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert used == set(example)
    optional = {
        "STORAGE_URL",
        "STORAGE_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "FAMILIES",
        "PROGRAMS",
        "TORCH_GPU_INDEX",
    }
    assert {name for name, value in example.items() if not value} == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", *optional}


def test_every_volume_and_build_target_exists() -> None:
    for name in OURS:
        assert f" AS {SERVICES[name]['build']['target']}\n" in DOCKERFILE
    named = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if re.match(r"[a-z]+:", volume)
    }
    assert named == set(COMPOSE["volumes"])


def test_every_package_is_copied_into_the_images_and_is_not_ignored() -> None:
    packages = {package.split("*")[0] for package in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    copied = {source for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for source in line.split()[:-1]}
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert packages <= copied
    assert copied <= sent
