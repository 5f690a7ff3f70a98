"""What the dashboard and the alerts ask Prometheus for exists: series, labels and the values they choose by.

Where `promtool` is at hand it also judges the exposition and the rules, and plays the cases of alerts_test.yml.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightshift.states import JobState
from shared.db.engine import write
from shared.fleet import workers
from shared.fleet.workers import Usage
from tests.support.api import Api
from tests.support.factories import job_in_state
from tests.support.paths import ROOT
from tools.grafana import dashboard

DASHBOARD = ROOT / "docs" / "grafana" / "nightshift.json"
ALERTS = ROOT / "docs" / "prometheus" / "alerts.yml"
CASES = Path(__file__).with_name("alerts_test.yml")
#: Labels that Prometheus adds to what it scrapes, and values that only time brings.
ADDED = {"instance": set(), "job": {"nightshift"}}
COMES_WITH_USE = {"status"}

#: label -> its values, by series.
Series = dict[str, dict[str, set[str]]]


def queries() -> list[tuple[str, str]]:
    """(title, expression) of every panel and every rule."""
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    asked = [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]
    return asked + [(rule["alert"], rule["expr"]) for rule in rules()]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def text(shared_api: Api) -> str:
    """A scrape of an installation with a job, a worker with a GPU, and some requests behind it."""
    api = shared_api
    job_in_state(api.engine, JobState.SUCCEEDED)
    with write(api.engine) as conn:
        workers.register(conn, workers.WorkerInfo("gpu0@host", "host", 1, "gpu", "a device"))
        workers.heartbeat(conn, "gpu0@host", usage=Usage(16_000, 4_000, 75.0, 61.0))
    api.submit()
    return str(api.get("/metrics").text)


@pytest.fixture(scope="module")
def series(text: str) -> Series:
    found: Series = defaultdict(lambda: defaultdict(set))
    for line in text.splitlines():
        if named := re.match(r"(nightshift_\w+)(\{.*\})? ", line):
            labels = found[named[1]]
            for label, value in re.findall(r'(\w+)="([^"]*)"', named[2] or ""):
                labels[label].add(value)
    return {**found, "up": {}}


@pytest.mark.parametrize(("title", "query"), queries())
def test_what_is_asked_for_exists(title: str, query: str, series: Series) -> None:
    asked = re.findall(r"\b(nightshift_\w+|up)\b", query.replace('"nightshift"', '""'))
    assert asked
    assert set(asked) <= set(series), f"there is no {set(asked) - set(series)}"
    known = set().union(*(series[name] for name in asked)) | set(ADDED)
    grouped = {label.strip() for group in re.findall(r"(?:by|on) \(([^)]*)\)", query) for label in group.split(",")}
    assert grouped <= known


@pytest.mark.parametrize(("title", "query"), queries())
def test_what_is_chosen_by_a_label_has_that_label_and_value(title: str, query: str, series: Series) -> None:
    for name, chosen in re.findall(r"(\w+)\{([^}]*)\}", query):
        for label, values in re.findall(r'(\w+)=~?"([^"]*)"', chosen):
            known = ADDED | series[name]
            assert label in known, f"{name} has no {label}"
            if label not in COMES_WITH_USE:
                assert set(values.split("|")) <= known[label], f"{name} never has {label}={values}"


def test_a_legend_names_labels_that_its_query_keeps() -> None:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            kept = re.match(
                r"(?:\d - )?(?:histogram_quantile\([\d.]+, )?(?:sum|max|min)(?: by \(([^)]*)\))?", target["expr"]
            )
            assert kept, target["expr"]
            labels = {label.strip() for label in (kept[1] or "").split(",")} - {"", "le"}
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) == labels, panel["title"]


def test_a_message_names_labels_that_its_rule_keeps() -> None:
    for rule in rules():
        named = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        kept = {label.strip() for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in group.split(",")}
        assert named <= kept | ({"instance"} if rule["expr"].startswith("up") else set()), rule["alert"]
        assert {"summary"} <= set(rule["annotations"])
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules()}


def test_the_dashboard_is_what_its_description_makes() -> None:
    assert json.loads(DASHBOARD.read_text()) == dashboard(), (
        "run: python -m tools.grafana > docs/grafana/nightshift.json"
    )


def test_the_first_of_a_kind_to_end_is_seen(text: str) -> None:
    """`increase()` needs a sample before it, so there is a zero of everything that may come."""
    for outcome in ("failed", "cancelled"):
        assert f'nightshift_job_seconds_count{{kind="finetune",outcome="{outcome}"}} 0.0' in text


def test_disks_are_measured(series: Series, text: str) -> None:
    assert series["nightshift_disk_free_bytes"]["folder"] >= {"data"}
    size, free = (
        float(re.findall(rf'^{name}{{folder="data"}} (\S+)$', text, re.M)[0])
        for name in ("nightshift_disk_bytes", "nightshift_disk_free_bytes")
    )
    assert 0 < free <= size


# -- where there is a promtool --------------------------------------------------------------------


def promtool(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool here: it comes with Prometheus")
    return subprocess.run([found, *arguments], input=given, capture_output=True, text=True, check=False)


def test_promtool_has_nothing_to_say_about_the_exposition(text: str) -> None:
    judged = promtool("check", "metrics", given=text)
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [("check", "rules", str(ALERTS)), ("test", "rules", str(CASES))])
def test_promtool_passes_the_rules(arguments: tuple[str, ...]) -> None:
    judged = promtool(*arguments)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_promtool_passes_the_configuration(tmp_path: Path) -> None:
    for file in ALERTS.parent.glob("*.yml"):
        shutil.copy(file, tmp_path)
    (tmp_path / "api_key").write_text("a key")
    judged = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert judged.returncode == 0, judged.stdout + judged.stderr
