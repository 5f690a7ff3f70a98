"""What a person reads on the pages of jobs is what SQL holds, for every family, old rows and new."""

from __future__ import annotations

from typing import Any

import pytest

from nightshift.metrics import HEADLINES, OF_STEPS, facts, label, sense
from tests.support import stored
from tests.support.browser import BrowserSession, expect
from tests.support.flower_app import FlowerApp

pytestmark = pytest.mark.slow


def text(name: str, value: float) -> str:
    """A figure as a page writes it: shares per cent with two decimals, four digits of anything else."""
    if any(part in name for part in ("accuracy", "precision", "recall", "f1")):
        return f"{100 * value:.2f}%"
    return f"{float(f'{value:.4g}'):g}"


def called(name: str) -> str:
    return name.replace("_", " ") + (" (last batches)" if name in OF_STEPS else "")


def cells(page: Any, rows: str) -> dict[str, list[str]]:
    """The text of a table's or list's rows by that of their first cell."""
    read = "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
    return {first: rest for first, *rest in page.locator(rows).evaluate_all(read)}


@pytest.fixture
def made(flower: FlowerApp) -> dict[str, dict[str, str]]:
    return stored.every_kind(flower.engine, flower.owner)


def test_figures_are_those_that_are_stored(
    flower: FlowerApp, visitor: BrowserSession, made: dict[str, dict[str, str]]
) -> None:
    page = visitor.page
    for jobs in made.values():
        for job_id in (jobs["old"], jobs["new"], jobs["running"]):
            page.goto(f"/nightshift/jobs/{job_id}")
            expect(page.locator("#curves-summary tbody tr").first).to_be_attached()
            figures = stored.result(flower.engine, job_id)
            shown = {called(name): [text(name, value)] for name, value in figures.items() if "per_second" not in name}
            assert cells(page, ".ns-result") == shown
            wanted = "20% · 13 s left" if job_id == jobs["running"] else "100%"
            assert page.locator("#job-facts .ns-progress-text").text_content() == wanted
            assert cells(page, "#curves-summary tbody tr") == {
                name.replace("_", " "): summary(name, stored.curve(flower.engine, job_id, name))
                for name in stored.names(flower.engine, job_id)
            }


def summary(name: str, rows: list[tuple[int, float]]) -> list[str]:
    """The latest, the lowest and the highest of a curve, each with its step."""
    chosen = (rows[-1], min(rows, key=lambda row: row[1]), max(rows, key=lambda row: row[1]))
    return [f"{text(name, value)}step {step}" for step, value in chosen]


def test_only_figures_of_whole_runs_are_marked_as_the_best(
    flower: FlowerApp, visitor: BrowserSession, made: dict[str, dict[str, str]]
) -> None:
    page = visitor.page
    for family, jobs in made.items():
        page.goto(f"/nightshift/compare?ids={','.join(jobs.values())}")
        table = cells(page, "#compare-table tbody tr")
        results = {job_id: stored.result(flower.engine, job_id) for job_id in jobs.values()}
        for name in {name for figures in results.values() for name in figures} - OF_STEPS:
            values = [figures.get(name) for figures in results.values()]
            if name.startswith("val_"):  # one that runs has its latest
                values[-1] = stored.curve(flower.engine, jobs["running"], name)[-1][1]
            best = best_of(name, [value for value in values if value is not None])
            assert table[called(name)] == [
                "–" if value is None else text(name, value) + (" best" if value == best else "") for value in values
            ]
        trained = stored.CURVES[family][0].split()
        for name in trained:
            latest = [stored.curve(flower.engine, job_id, name)[-1][1] for job_id in jobs.values()]
            assert table[called(name)] == [text(name, value) for value in latest]
            assert f"best {name.replace('_', ' ')}" not in table
    page.goto("/nightshift/jobs?columns=name,curve,loss,train_loss,best.val_loss")
    heads = page.locator("#jobs-table thead th").all_text_contents()
    assert [head.rstrip(" ↑↓") for head in heads][-3:] == ["loss (last batches)", "train loss", "best val loss"]
    row = page.locator(f"#jobs-table tr[data-row='{made['cnn']['new']}'] td").all_text_contents()
    figures = stored.result(flower.engine, made["cnn"]["new"])
    assert row[-3:] == [
        text("loss", stored.curve(flower.engine, made["cnn"]["new"], "loss")[-1][1]),
        text("train_loss", figures["train_loss"]),
        text("val_loss", min(value for _, value in stored.curve(flower.engine, made["cnn"]["new"], "val_loss"))),
    ]
    assert text("test_accuracy", figures["test_accuracy"]) in row[-4]


def best_of(name: str, values: list[float]) -> float | None:
    """None where neither is better, as of the players of a GAN."""
    if name.endswith(("g_loss", "d_loss")) or len(set(values)) < 2:
        return None
    return min(values) if any(part in name for part in ("loss", "perplexity", "distance")) else max(values)


def test_a_number_is_shown_as_what_it_is(visitor: BrowserSession) -> None:
    page = visitor.page
    page.goto("/nightshift/jobs")
    values = [
        0.03117,
        0.5,
        9.9999,
        99.96,
        100.04,
        120.04,
        120.4,
        999.96,
        200.3,
        1e-4,
        12345.67,
        1e-7,
        3e9,
        -120.04,
        -0.02,
    ]
    script = """async (values) => {
      const { number } = await import("/nightshift/static/js/format.js");
      return values.map((value) => [number(value), number(value, 3)]);
    }"""
    for value, shown in zip(values, page.evaluate(script, values), strict=True):
        for digits, one in zip((4, 3), shown, strict=True):
            assert float(one.replace(",", "")) == pytest.approx(value, rel=10.0 ** (1 - digits)), one


def test_a_page_knows_of_a_metric_what_python_knows(flower: FlowerApp, visitor: BrowserSession) -> None:
    visitor.page.goto("/nightshift/models")
    look = """async names => {
      const { better, figureName, figureOrder } = await import("/nightshift/static/js/figures.js");
      const order = names.toSorted((a, b) => figureOrder(a) - figureOrder(b));
      return { better: names.map(better), called: names.map(figureName), order };
    }"""
    known = [*HEADLINES, *sorted(OF_STEPS), "f1_macro", "val_g_loss", "train_d_loss", "rows"]
    found = visitor.page.evaluate(look, known)
    assert found["better"] == [sense(name) for name in known]
    own = {name: fact["label"] for name, fact in facts()["declared"].items()}  # pages call these by their labels
    called = [own.get(name, label(name)) for name in known]
    assert [name.replace(" ", "_") for name in found["called"]] == [name.replace(" ", "_") for name in called]
    assert found["order"][:3] == list(HEADLINES[:3])
    assert set(found["order"][-len(OF_STEPS) :]) == OF_STEPS
