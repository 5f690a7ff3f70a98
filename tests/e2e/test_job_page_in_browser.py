"""The page of one job in a real browser: run it again with changes, a new job, what people write on it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from api.services import programs
from shared.datasets import registry
from shared.db.engine import read, write
from shared.fleet import conformance
from shared.fleet.plugins import InstalledPlugin
from shared.jobs import queries, transitions
from shared.jobs.transitions import ArtifactRecord, LogRow, MetricRow, NewJob, SampleRow
from shared.specs.jobs import job_spec_adapter
from tests.support.browser import PHONE, BrowserSession, expect
from tests.support.factories import claim_job, make_claimer, running_job, submit_job
from tests.support.flower_app import FlowerApp, running_flower_app
from tests.support.plugins import JUDGED, forget_modules, installed, write_package

pytestmark = pytest.mark.slow


@pytest.fixture
def visitor(window: BrowserSession, flower: FlowerApp) -> Iterator[BrowserSession]:
    window.begin(flower.key)
    yield window
    window.close()
    refusals = [text for text in window.wrong if "422" not in text]  # the browser's own line about a refused request
    assert refusals == []


def job(flower: FlowerApp, page: Any) -> dict[str, Any]:
    """The job whose page is open."""
    with read(flower.engine) as conn:
        return queries.job_view(queries.get_job(conn, page.url.rpartition("/")[2], None))


def test_a_job_is_run_again_with_changes_and_errors_stand_at_their_field(
    flower: FlowerApp, visitor: BrowserSession
) -> None:
    fields: dict[str, Any] = {"name": "first", "tags": {"team": "vision"}, "register_as": "digits"}
    old = submit_job(flower.engine, owner_id=flower.owner, **fields).job_id
    page = visitor.page
    page.goto(f"/nightshift/jobs/{old}")
    page.get_by_role("link", name="Run again").press("Enter")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    expect(page.get_by_label("Name", exact=True)).to_have_value("")
    expect(page.locator("[data-path=register_as]")).to_contain_text("the original job registered digits")
    expect(page.locator("#submit-changes")).to_contain_text("No changes")
    expect(page.locator("#submit-changes")).to_contain_text("will not be registered")
    page.get_by_label("Register as").fill("mine")
    expect(page.locator("#submit-changes")).to_contain_text("registered as a new version of mine")
    page.get_by_label("Learning rate").fill("0")
    page.get_by_label("Epochs").press("Enter")
    expect(page.locator("[id='field-training.learning_rate-error']")).to_contain_text("greater than 0")
    expect(page.get_by_label("Learning rate")).to_be_focused()
    page.get_by_label("Learning rate").fill("0.003")
    expect(page.locator("#submit-changes")).to_contain_text("training.learning_rate 0.001 → 0.003")
    page.get_by_role("tab", name="Form").press("ArrowRight")
    text = page.get_by_label("The spec as JSON")
    whole = text.input_value()
    assert '"learning_rate": 0.003' in whole
    text.fill("{")
    expect(page.locator("#submit-errors")).to_contain_text("Invalid JSON")
    page.get_by_role("tab", name="Form").click()
    expect(text).to_be_focused()
    text.fill(whole.replace('"seed": 0', '"seed": 7'))
    page.get_by_role("tab", name="JSON").press("ArrowLeft")
    expect(page.get_by_label("Seed")).to_have_value("7")
    page.get_by_role("button", name="Submit").press("Enter")
    expect(page.locator(".ns-like")).to_contain_text(
        "Copy of first, changed: learning rate 0.001 → 0.003, seed 0 → 7, register as digits → mine"
    )
    shown = job(flower, page)
    assert (shown["tags"], shown["copied_from"]["id"]) == ({"team": "vision"}, old)
    assert (shown["name"], shown["spec"]["register_as"]) == (None, "mine")


def test_a_new_job_is_made_by_hand(flower: FlowerApp, visitor: BrowserSession) -> None:
    page = visitor.page
    page.goto("/nightshift/jobs")
    page.get_by_role("link", name="New job").click()
    page.get_by_label("Model", exact=True).select_option("gan")
    page.get_by_label("Preset").select_option("dense")
    expect(page.get_by_label("Learning rate")).to_have_attribute("placeholder", "0.0001")
    page.get_by_label("Learning rate").fill("0.5")
    page.get_by_label("Optimizer").select_option("sgd")
    expect(page.get_by_label("Learning rate")).to_have_value("")
    expect(page.get_by_label("Learning rate")).to_have_attribute("placeholder", "0.01")
    page.get_by_label("Epochs").fill("two")
    page.get_by_label("Tags").fill("team=vision, night=1")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("[id='field-training.epochs-error']")).to_contain_text("integer")
    page.get_by_label("Epochs").fill("2")
    page.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile("/nightshift/jobs/[0-9a-f]{16}$"))
    spec = job(flower, page)["spec"]
    assert (spec["model"]["preset"], spec["training"]["epochs"]) == ("dense", 2)
    assert (spec["training"]["optimizer"], spec["training"]["learning_rate"]) == ("sgd", 0.01)
    assert spec["tags"] == {"team": "vision", "night": "1"}


def test_the_layers_follow_the_settings_before_anything_is_trained(visitor: BrowserSession) -> None:
    page = visitor.page
    page.goto("/nightshift/jobs/new")
    total, rows = page.locator("#layers-total"), page.locator("#layers tbody tr")
    page.get_by_label("Model", exact=True).select_option("gru_lm")
    page.get_by_label("Data set").fill("")
    expect(rows).to_have_count(4)
    page.get_by_text("Model settings").click()
    expect(page.get_by_label("Units")).to_have_attribute("placeholder", "512, 512")
    page.get_by_label("Units").fill("8, 16, 8")
    expect(rows).to_have_count(5)
    expect(rows.nth(2)).to_contain_text("gru1")
    expect(rows.nth(2)).to_contain_text("100 × 16")
    page.get_by_label("Vocabulary size").fill("50")
    page.get_by_label("Embedding").fill("4")
    weights = 50 * 4 + 3 * 8 * (4 + 8 + 2) + 3 * 16 * (8 + 16 + 2) + 3 * 8 * (16 + 8 + 2) + 50 * 9
    expect(total).to_contain_text(f"{weights:,} parameters")
    page.get_by_role("tab", name="JSON").click()
    page.get_by_label("The spec as JSON").fill(
        '{"kind": "train", "model": {"family": "gru_lm", "units": [4]}, "dataset": "x"}'
    )
    expect(rows).to_have_count(3)


def test_a_setting_without_layers_is_marked_in_place_and_the_table_stays(visitor: BrowserSession) -> None:
    page = visitor.page
    page.goto("/nightshift/jobs/new")
    page.get_by_label("Model", exact=True).select_option("gan")
    rows = page.locator("#layers tbody tr")
    expect(rows).to_have_count(13)
    size = "card => [card.offsetTop, card.offsetWidth, card.offsetHeight]"
    before = page.locator("#layers").evaluate(size)
    page.get_by_text("Model settings").click()
    wrong = page.get_by_label("Generator filters")
    wrong.press_sequentially("8, 0")
    error = page.locator("[id='field-model.generator_filters-error']")
    expect(error).to_contain_text("entry 2: Input should be greater than or equal to 1")
    expect(wrong).to_be_focused()
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(rows).to_have_count(13)
    expect(page.locator("#layers-total")).to_have_text("of the last valid settings")
    assert page.locator("#layers").evaluate(size) == before
    wrong.fill("8, 4, 2, 2, 2, 2")
    expect(page.locator("#layers-error")).to_contain_text("image_size is too small to be halved")
    wrong.fill("8")
    expect(error).to_be_empty()
    expect(page.locator("#layers-error")).to_be_empty()
    expect(rows).to_have_count(11)
    page.get_by_label("Generator dense").fill("[]")
    expect(rows).to_have_count(9)
    page.get_by_label("Data set").fill("digits")
    page.get_by_label("Kernel size").select_option("6")
    page.get_by_label("Image channels").select_option("3")
    expect(rows.nth(2)).to_contain_text("28 × 28 × 3")
    page.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile("/nightshift/jobs/[0-9a-f]{16}$"))


def test_what_augments_is_ticked_and_what_a_family_lacks_is_not_offered(
    flower: FlowerApp, visitor: BrowserSession
) -> None:
    page = visitor.page
    page.goto("/nightshift/jobs/new")
    page.get_by_text("More settings").click()
    page.get_by_role("group", name="augment").get_by_label("rotate").check()
    page.get_by_role("group", name="augment").get_by_label("shift").check()
    page.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile("/nightshift/jobs/[0-9a-f]{16}$"))
    assert job(flower, page)["spec"]["training"]["augment"] == ["rotate", "shift"]
    page.goto("/nightshift/jobs/new")
    page.get_by_label("Model", exact=True).select_option("gan")
    page.get_by_text("More settings").click()
    expect(page.get_by_label("Weight decay")).to_be_visible()
    expect(page.get_by_role("group", name="augment")).to_have_count(0)
    expect(page.get_by_label("Beta1")).to_have_attribute("placeholder", "0.5")
    expect(page.get_by_label("Momentum")).to_have_count(0)
    page.get_by_label("Optimizer").select_option("sgd")
    expect(page.get_by_label("Momentum")).to_be_visible()
    expect(page.get_by_label("Beta1")).to_have_count(0)
    page.get_by_label("Kind").select_option("evaluate")
    expect(page.locator("#layers-card")).to_be_hidden()


def test_a_table_is_chosen_with_its_family_and_its_columns_are_suggested(
    flower: FlowerApp, visitor: BrowserSession, tmp_path: Path
) -> None:
    (tmp_path / "animals.csv").write_text("legs,weight,kind\n" + "4,3.5,cat\n2,0.5,bird\n" * 40)
    registry.register(flower.engine, flower.settings, "animals", tmp_path / "animals.csv", kind="table")
    page = visitor.page
    page.goto("/nightshift/jobs/new")
    page.get_by_label("Model", exact=True).select_option("mlp")
    expect(page.get_by_label("Data set")).to_have_value("animals")
    page.get_by_text("Model settings").click()
    expect(page.locator("[id='field-model.target-error']")).to_contain_text("the column to predict")
    target = page.get_by_label("Target")
    assert target.evaluate("input => [...input.list.options].map(({ value }) => value)") == ["legs", "weight", "kind"]
    target.fill("kind")
    expect(page.locator("[id='field-model.target-error']")).to_be_empty()
    rows = page.locator("#layers tbody tr")
    expect(rows.last).to_contain_text("output")
    expect(page.locator("#layers")).to_contain_text("animals@1")
    before = rows.count()
    page.get_by_label("Hidden").fill("[]")
    expect(rows).to_have_count(before - 2)
    page.get_by_label("Features").fill("weight\nlegs")
    page.get_by_label("Task").select_option("classes")
    page.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile("/nightshift/jobs/[0-9a-f]{16}$"))
    model = job(flower, page)["spec"]["model"]
    assert (model["target"], model["hidden"], model["features"]) == ("kind", [], ["weight", "legs"])
    assert (model["task"], model["loss"], model["categorical"]) == ("classes", None, None)
    page.locator("#layers-card summary").click()
    expect(page.locator("#layers tbody tr")).to_have_count(before - 2)
    expect(page.locator("#layers")).to_contain_text("animals@1")


def test_the_tables_of_an_evaluation_are_read_on_the_page(
    flower: FlowerApp, visitor: BrowserSession, tmp_path: Path
) -> None:
    submit_job(flower.engine, owner_id=flower.owner)
    lease = claim_job(flower.engine).lease
    document = {
        "classes": ["cat", "dog"],
        "confusion_matrix": [[1, 0], [0, 1]],
        "per_entity": [{"entity": "LOC", "f1": 0.25, "support": 4}, {"entity": "PER", "f1": None, "support": 0}],
        "worst_sentences": [{"tokens": ["<b>In</b>", "Rome"], "predicted": ["O", "B-PER"], "loss": 3.5}],
    }
    stored = f"jobs/{lease.job_id}/attempts/1/artifacts/evaluation.json"
    (flower.settings.storage_root / stored).parent.mkdir(parents=True)
    (flower.settings.storage_root / stored).write_text(json.dumps(document))
    record = ArtifactRecord("evaluation.json", stored, "a" * 64, 10, "application/json")
    with write(flower.engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[record])
    page = visitor.page
    page.goto(f"/nightshift/jobs/{lease.job_id}")
    page.locator("#evaluation-card summary").click()
    entities, sentences = page.get_by_role("region", name="per entity"), page.get_by_role("region", name="worst sent")
    expect(entities.locator("tbody tr").first).to_have_text("LOC0.254")
    expect(entities.locator("tbody tr").last).to_have_text("PER–0")
    expect(sentences).to_contain_text("<b>In</b> Rome")
    expect(sentences).to_contain_text("O B-PER")
    expect(page.locator("#evaluation table")).to_have_count(2)
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_new_job_fits_a_phone(visitor: BrowserSession) -> None:
    page = visitor.page
    page.set_viewport_size(PHONE)
    page.goto("/nightshift/jobs/new")
    page.get_by_text("More settings").click()
    page.get_by_text("Model settings").click()
    page.locator("#layers tbody tr").first.wait_for()
    for view in ("Form", "JSON"):
        page.get_by_role("tab", name=view).click()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{view} is {width} pixels wide"
    assert visitor.wrong == []


@pytest.fixture
def with_program(
    sqlite_engine: Engine, tmp_path: Path, window: BrowserSession, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FlowerApp]:
    """Pages of a server that has the program walk."""
    installed(tmp_path / "packages", monkeypatch)
    write_package(tmp_path / "packages", more=JUDGED)
    programs._installed.cache_clear()
    with running_flower_app(sqlite_engine, tmp_path, flower_port=window.port, programs="walk") as app:
        window.begin(app.key)
        yield app
        window.close()
    programs._installed.cache_clear()
    forget_modules()


def test_a_program_is_run_from_a_form_of_its_parameters(with_program: FlowerApp, window: BrowserSession) -> None:
    page = window.page
    page.goto("/nightshift/jobs/new")
    page.get_by_label("Kind").select_option("run")
    expect(page.locator("[data-path=program]")).to_contain_text("A random walk.")
    page.get_by_label("Data set").fill("digits")
    page.get_by_label("steps", exact=True).fill("0")
    page.get_by_label("Secrets").fill("HUB_TOKEN, OTHER")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("[id='field-params.steps-error']")).to_contain_text("greater than or equal to 1")
    page.get_by_label("steps", exact=True).fill("7")
    page.get_by_label("Register as").fill("walks")
    page.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile("/nightshift/jobs/[0-9a-f]{16}$"))
    spec = job(with_program, page)["spec"]
    assert (spec["program"], spec["dataset"], spec["params"]["steps"]) == ("walk", "digits", 7)
    assert (spec["secrets"], spec["register_as"]) == (["HUB_TOKEN", "OTHER"], "walks")
    expect(page.locator("#job-facts")).to_contain_text("Programwalk")
    page.get_by_role("link", name="Run again").click()
    expect(page.get_by_label("steps", exact=True)).to_have_value("7")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_a_program_none_is_offered(visitor: BrowserSession) -> None:
    page = visitor.page
    page.goto("/nightshift/jobs/new?kind=run")
    expect(page.get_by_label("Kind")).to_have_value("train")
    expect(page.get_by_label("Kind").locator("option")).to_have_count(4)


def test_a_jobs_page_shows_its_program_and_that_another_version_went_on(
    with_program: FlowerApp, window: BrowserSession
) -> None:
    engine = with_program.engine
    spec = job_spec_adapter.validate_python({"kind": "run", "program": "walk", "params": {"steps": 500}})
    with write(engine) as conn:
        job_id = transitions.submit(conn, NewJob(owner_id=with_program.owner, spec=spec)).job_id
    plugin = InstalledPlugin("program walk", "nightshift-walk 2.0", "r", 2)
    lease = claim_job(engine, replace(make_claimer(), plugins=(plugin,))).lease
    pinned = {
        "plugin": "program walk", "package": "nightshift-walk 1.0", "record": "q", "state_version": 2,
        "promise": "exact",
    }  # fmt: skip
    environment = {"package": "nightshift-walk 2.0", "begun_by": "nightshift-walk 1.0"}
    with write(engine) as conn:
        transitions.pin(conn, lease, facts={"plugin": pinned})
        begun = {"device_label": "cpu", "resumed_from": None, "resumed_step": 40, "quarantined": []}
        transitions.begin(conn, lease, **begun, environment=environment)
        transitions.record(conn, lease, metrics=[MetricRow("distance", 50, 0, 0.25)])
        conformance.store(conn, "program walk", "q", "nightshift-walk 1.0", {"passed": True})
    page = window.page
    page.goto(f"/nightshift/jobs/{job_id}")
    expect(page.locator("#job-facts")).to_contain_text("walknightshift-walk 1.0 · resumes exactly")
    expect(page.locator("#attempts")).to_contain_text(
        "not exact nightshift-walk 2.0 continued what nightshift-walk 1.0"
    )
    expect(page.locator("#environment")).to_contain_text("not exact: begun bynightshift-walk 1.0")
    assert window.wrong == []


def test_name_notes_tags_and_priority_are_edited(flower: FlowerApp, visitor: BrowserSession) -> None:
    job_id = submit_job(flower.engine, owner_id=flower.owner, name="before", tags={"old": "1"}).job_id
    page = visitor.page
    page.goto(f"/nightshift/jobs/{job_id}")
    page.get_by_role("button", name="Edit").press("Enter")
    dialog = page.get_by_role("dialog", name="Edit")
    expect(dialog.get_by_label("Name")).to_be_focused()
    dialog.get_by_label("Name").fill("after")
    dialog.get_by_label("Tags").fill("night=2")
    dialog.get_by_label("Priority").fill("12")
    dialog.get_by_label("Notes").fill("<b>not bold</b>\nsecond line")
    dialog.get_by_role("button", name="Save").press("Enter")
    expect(dialog).to_contain_text("less than or equal to 9")
    dialog.get_by_label("Priority").fill("8")
    dialog.get_by_label("Priority").press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.locator("h1")).to_have_text("after")
    expect(page.locator("#job-notes")).to_have_text("<b>not bold</b>\nsecond line", use_inner_text=True)
    expect(page.locator("#job-facts")).to_contain_text("priority 8")
    assert job(flower, page)["tags"] == {"night": "2"}


def test_what_a_runner_used_and_ran_on_is_shown(flower: FlowerApp, visitor: BrowserSession) -> None:
    lease = running_job(flower.engine, owner_id=flower.owner)
    ran_on = {"host": "here", "commit": "0123456789abcdef", "libraries": {"numpy": "2.4.0"}}
    with write(flower.engine) as conn:
        facts: dict[str, Any] = {"device_label": "cpu", "resumed_from": None, "resumed_step": None, "quarantined": []}
        transitions.begin(conn, lease, **facts, environment=ran_on)
        used = [SampleRow(age, 150.0, 700_000_000) for age in (20.0, 10.0, 0.0)]
        transitions.record(conn, lease, samples=used, logs=[LogRow("info", "epoch 1/2: loss 0.5")])
    page = visitor.page
    page.goto(f"/nightshift/jobs/{lease.job_id}")
    expect(page.locator("#environment")).to_contain_text("0123456789ab")
    expect(page.locator("#environment")).to_contain_text("numpy2.4.0", use_inner_text=False)
    expect(page.locator("#system-charts .ns-chart")).to_have_count(0)
    page.locator("#system summary").press("Enter")
    charts = page.locator("#system-charts .ns-chart")
    expect(charts).to_have_count(2)
    expect(charts.first).to_have_attribute("aria-label", re.compile("150%"))
    expect(charts.last).to_have_attribute("aria-label", re.compile("700 MB"))
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download the whole log").press("Enter")
    assert "epoch 1/2: loss 0.5" in saved.value.path().read_text()
