"""What pages show is what SQL holds: every figure that the pages of jobs, Compare and models serve, computed anew from
rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.flower.pages.job import MAX_POINTS
from nightshift.metrics import OF_STEPS
from shared.db.engine import make_engine
from tests.support import stored
from tests.support.databases import sqlite_database
from tests.support.flower_app import FlowerApp, running_flower_app
from tests.support.stored import CURVES

#: Which is better, said once more and by hand.
BETTER = {
    "test_accuracy": max, "test_loss": min, "f1_macro": max, "train_loss": min, "train_accuracy": max,
    "val_loss": min, "val_accuracy": max, "val_perplexity": min, "test_perplexity": min, "train_perplexity": min,
    "val_frechet_distance": min, "frechet_distance": min, "precision": max, "recall": max,
}  # fmt: skip


@pytest.fixture(scope="module")
def stack(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowerApp]:
    folder = tmp_path_factory.mktemp("pages")
    engine = make_engine(sqlite_database(folder, sqlite_template))
    with running_flower_app(engine, folder) as app:
        yield app
    engine.dispose()


@pytest.fixture(scope="module")
def made(stack: FlowerApp) -> dict[str, dict[str, str]]:
    return stored.every_kind(stack.engine, stack.owner)


@pytest.fixture(params=CURVES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_page_of_a_job(stack: FlowerApp, made: dict[str, dict[str, str]], family: str) -> None:
    for job_id in made[family].values():
        shown = stack.data(f"/jobs/{job_id}/live", after=0)["overview"]["job"]
        assert (shown["result"] or {}).get("metrics", {}) == stored.result(stack.engine, job_id)
        answer = stack.data(f"/jobs/{job_id}/curves")["curves"]
        assert sorted(answer) == sorted(stored.names(stack.engine, job_id))
        for name, columns in answer.items():
            is_thinned_truly(stored.curve(stack.engine, job_id, name), columns, MAX_POINTS)


def is_thinned_truly(rows: list[tuple[int, float]], columns: dict[str, list[Any]], most: int) -> None:
    """Nothing but rows, the ends and the extremes among them, and all where there are few."""
    points = list(zip(columns["step"], columns["value"], strict=True))
    assert points == sorted(set(points))
    assert set(points) <= set(rows)
    assert len(points) <= most
    assert (points[0], points[-1]) == (rows[0], rows[-1])
    for extreme in (min, max):
        assert extreme(value for _, value in points) == extreme(value for _, value in rows)
    if len(rows) <= most:
        assert points == rows


def test_the_table_of_jobs(stack: FlowerApp, made: dict[str, dict[str, str]], family: str) -> None:
    columns = ["loss", "val_loss", "best.val_loss", "max.val_loss", "train_loss", "test_loss"]
    rows = {row["id"]: row for row in stack.data("/jobs/data", family=family, columns=",".join(columns))["items"]}
    assert rows.keys() == set(made[family].values())
    for job_id, row in rows.items():
        figures = stored.result(stack.engine, job_id)
        spark = row["spark"]
        curve = stored.curve(stack.engine, job_id, spark["name"])
        assert {tuple(point) for point in spark["points"]} <= set(curve)
        assert [tuple(spark["points"][place]) for place in (0, -1)] == [curve[0], curve[-1]]
        known = {
            "cnn": "test_accuracy",
            "gru_lm": "test_perplexity",
            "gan": "frechet_distance",
            "mlp": "test_accuracy",
        }[family]
        latest = {"name": spark["name"], "value": curve[-1][1]}
        assert row["headline"] == ({"name": known, "value": figures[known]} if figures else latest)
        values = [value for _, value in stored.curve(stack.engine, job_id, "val_loss")]
        steps = stored.curve(stack.engine, job_id, "loss")
        assert row["values"] == {
            "loss": steps[-1][1] if steps else None,
            "val_loss": figures.get("val_loss", values[-1] if values else None),
            "best.val_loss": min(values, default=None),
            "max.val_loss": max(values, default=None),
            "train_loss": figures.get("train_loss"),
            "test_loss": figures.get("test_loss"),
        }


def test_jobs_beside_each_other(stack: FlowerApp, made: dict[str, dict[str, str]], family: str) -> None:
    found = stack.data("/compare/data", ids=",".join(made[family].values()))
    for job in found["jobs"]:
        curves = {name: stored.curve(stack.engine, job["id"], name) for name in stored.names(stack.engine, job["id"])}
        figures = stored.result(stack.engine, job["id"])
        assert job["results"] == {name: rows[-1][1] for name, rows in curves.items()} | figures
        assert job["best"] == {
            name: BETTER[name](value for _, value in rows) for name, rows in curves.items() if name in BETTER
        }
        assert not OF_STEPS & job["best"].keys()
        for name, columns in job["curves"].items():
            is_thinned_truly(curves[name], columns, 2 * MAX_POINTS // len(found["jobs"]))
    shown = {name for job in found["jobs"] for name in job["results"]}
    assert found["senses"] == {name: sense(name) for name in shown if name in BETTER}


def sense(name: str) -> str:
    return BETTER[name].__name__


def test_versions_of_a_model(stack: FlowerApp, made: dict[str, dict[str, str]], family: str) -> None:
    versions = stored.versions(stack.engine, f"of-{family}")
    model = stack.data(f"/models/of-{family}/data", compare=",".join(map(str, versions)))
    assert {one["version"]: one["metrics"] for one in model["versions"]} == versions
    names = {name for figures in versions.values() for name in figures}
    assert model["senses"] == {name: sense(name) if name in BETTER else None for name in names}
    for name, columns in model["charts"].items():
        points = dict(zip(columns["version"], columns["value"], strict=True))
        assert points == {version: figures[name] for version, figures in versions.items() if name in figures}
    for row in model["comparison"]["metrics"]:
        values = [versions[number].get(row["name"]) for number in model["comparison"]["versions"]]
        assert row["values"] == values
        numbers = [value for value in values if value is not None]
        best = BETTER[row["name"]](numbers) if row["name"] in BETTER and len(set(numbers)) > 1 else None
        assert row["best"] == [place for place, value in enumerate(values) if best is not None and value == best]
    (listed,) = [one for one in stack.data("/models/-/data")["models"] if one["name"] == f"of-{family}"]
    assert listed["metric"] == model["metric"] == next(iter(model["senses"]))
    assert dict(listed["points"]) == {version: figures[model["metric"]] for version, figures in versions.items()}
    assert listed["champion"]["metrics"] == versions[listed["champion"]["version"]]
