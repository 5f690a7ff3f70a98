"""Our Tornado handlers inside Flower. They precede Flower's own, so a path here replaces Flower's page."""

from __future__ import annotations

from typing import Any

import tornado.web
from flower.views.monitor import Metrics as FlowerMetrics

from api.flower import owner_view
from api.flower.pages import compare, datasets, devices, job, jobs, layers, models, schedules, submit, sweeps, tasks
from api.flower.pages.base import ActionOf, Assets, Handler, Look, Missing, View, ViewData
from api.flower.site import ROOT
from api.flower.templating import STATIC
from api.flower.uploads import AddVersion
from shared.specs.base import DATASET_REF, NAME


class Metrics(FlowerMetrics):  # type: ignore[misc]
    """Flower's Prometheus metrics (worker and task names), behind a key."""

    @tornado.web.authenticated
    async def get(self) -> None:
        await super().get()


class Home(Handler):
    """Redirects from `/` to the jobs; Flower's first page stays at `/workers`."""

    def get(self) -> None:
        self.redirect(self.site.url("/jobs"))


#: A job's id in a path.
JOB = r"([0-9a-f]{16})"
#: A sweep's id in a path.
SWEEP = JOB


def _view(path: str, data: str, view: Look, template: str, tab: str, title: str | None = None) -> list[Any]:
    """Return the rules of a page and of the data that it polls, at `path + data`."""
    return [_page(path, view, template, tab, title), _data(f"{path}{data}", view)]


def _page(path: str, view: Look, template: str, tab: str, title: str | None = None) -> tuple[str, type[Handler], Any]:
    return (f"{ROOT}{path}", View, {"view": view, "template": template, "tab": tab, "title": title})


def _data(path: str, view: Look) -> tuple[str, type[Handler], dict[str, Any]]:
    """Return the rule of data that a page requests."""
    return (f"{ROOT}{path}", ViewData, {"view": view})


def _action(path: str, act: Look) -> tuple[str, type[Handler], dict[str, Any]]:
    """Return the rule of a change."""
    return (f"{ROOT}{path}", ActionOf, {"act": act})


#: Rules as in `tornado.web.Application`, below the URL prefix. Our handlers inherit from pages/base.py, which requires
#: a key.
HANDLERS: list[Any] = [
    (r"/", Home),
    (r"/metrics", Metrics),
    (r"/tasks/datatable", owner_view.Table),
    (r"/worker/(.+)", owner_view.Worker),
    (r"/api/tasks", owner_view.Tasks),
    (r"/api/task/info/(.*)", owner_view.Task),
    (r"/api/workers", owner_view.Workers),
    *tasks.HANDLERS,
    (rf"{ROOT}/static/(.*)", Assets, {"path": str(STATIC)}),
    (rf"{ROOT}/jobs", jobs.JobsPage),
    _data("/jobs/data", jobs.rows),
    _data("/jobs/columns", jobs.columns),
    (rf"{ROOT}/jobs/new", submit.NewJob),
    _action("/jobs/submit", submit.submit),
    _action("/jobs/layers", submit.layers),
    (rf"{ROOT}/jobs/{JOB}", job.JobPage),
    _data(rf"/jobs/{JOB}/live", job.live),
    _data(rf"/jobs/{JOB}/curves", job.all_curves),
    _data(rf"/jobs/{JOB}/system", job.system),
    _data(rf"/jobs/{JOB}/log", job.log),
    _data(rf"/jobs/{JOB}/layers", layers.of_job),
    (rf"{ROOT}/jobs/{JOB}/(metrics\.csv|log\.txt)", job.JobExport),
    (rf"{ROOT}/jobs/{JOB}/files/(.+)", job.JobFile),
    _action(rf"/jobs/{JOB}/edit", job.edit),
    _action(rf"/jobs/{JOB}/(cancel|finish|pause|resume|archive|unarchive|delete)", job.act),
    *_view("/compare", "/data", compare.comparison, "ns_compare.html", "jobs", "Compare jobs"),
    *_view("/models", "/-/data", models.listed, "ns_models.html", "models", "Models"),
    *_view(f"/models/({NAME})", "/data", models.model, "ns_model.html", "models"),
    _data(rf"/models/({NAME})/history", models.history),
    _action(rf"/models/({NAME})/aliases", models.move_alias),
    _action(rf"/models/({NAME})/rollback", models.roll_back),
    _action(rf"/models/({NAME})/describe", models.describe),
    _action(rf"/models/({NAME})/register", models.register_job),
    (rf"{ROOT}/models/({NAME})/versions/({NAME})/files", models.VersionFiles),
    _data(rf"/models/({NAME})/versions/({NAME})/layers", layers.of_version),
    _action(rf"/models/({NAME})/versions/([1-9][0-9]{{0,8}})/describe", models.change_version),
    *_view("/datasets", "/-/data", datasets.listed, "ns_datasets.html", "datasets", "Data sets"),
    (rf"{ROOT}/datasets/-/add", AddVersion),
    *_view(f"/datasets/({DATASET_REF})", "/data", datasets.dataset, "ns_dataset.html", "datasets"),
    (rf"{ROOT}/datasets/({DATASET_REF})/sample", datasets.DatasetSample),
    _action(rf"/datasets/({NAME})/versions/([1-9][0-9]{{0,8}})/delete", datasets.delete_version),
    *_view("/schedules", "/-/data", schedules.listed, "ns_schedules.html", "schedules", "Schedules"),
    _data("/schedules/-/preview", schedules.preview),
    _action("/schedules/-/add", schedules.add),
    (rf"{ROOT}/schedules/({NAME})", schedules.SchedulePage),
    _data(rf"/schedules/({NAME})/data", schedules.schedule),
    _data(rf"/schedules/({NAME})/history", schedules.history),
    _action(rf"/schedules/({NAME})/run", schedules.run_now),
    _action(rf"/schedules/({NAME})/change", schedules.change),
    _action(rf"/schedules/({NAME})/delete", schedules.delete),
    _action(rf"/schedules/({NAME})/(pause|resume)", schedules.pause_or_resume),
    *_view("/sweeps", "/-/data", sweeps.listed, "ns_sweeps.html", "sweeps", "Sweeps"),
    (rf"{ROOT}/sweeps/{SWEEP}", sweeps.SweepPage),
    _data(rf"/sweeps/{SWEEP}/data", sweeps.sweep),
    _action(rf"/sweeps/{SWEEP}/add", sweeps.add),
    _action(rf"/sweeps/{SWEEP}/(pause|resume|stop|cancel|delete)", sweeps.act),
    _page("/devices", devices.page, "ns_devices.html", "devices", "Devices"),
    _data("/devices/data", devices.fleet),
    _action("/devices/(cordon|drain|uncordon|forget)", devices.act),
    _data("/devices/history", devices.past),
    (rf"{ROOT}/.*", Missing),
]
