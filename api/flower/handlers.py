"""Our Tornado handlers inside Flower. They precede Flower's own, so a path here replaces Flower's page."""

from __future__ import annotations

from typing import Any

import tornado.web
from flower.views.monitor import Metrics as FlowerMetrics

from api.flower import owner_view
from api.flower.pages import compare, datasets, devices, job, jobs, models, schedules, submit, tasks
from api.flower.pages.base import Assets, Handler, Look, Missing, View, ViewData
from api.flower.site import ROOT
from api.flower.templating import STATIC
from api.flower.uploads import AddVersion


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
#: The name of a model or schedule in a path.
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
#: A data set, or one of its versions.
REF = rf"{NAME}(?:@[1-9][0-9]{{0,8}})?"


def _view(path: str, data: str, view: Look, template: str, tab: str, title: str | None = None) -> list[Any]:
    """Return the rules of a page and of the data that it polls, at `path + data`."""
    page = {"view": view, "template": template, "tab": tab, "title": title}
    return [(f"{ROOT}{path}", View, page), (f"{ROOT}{path}{data}", ViewData, {"view": view})]


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
    (rf"{ROOT}/jobs/data", jobs.JobsData),
    (rf"{ROOT}/jobs/columns", jobs.JobsColumns),
    (rf"{ROOT}/jobs/new", submit.NewJob),
    (rf"{ROOT}/jobs/submit", submit.Submit),
    (rf"{ROOT}/jobs/{JOB}", job.JobPage),
    (rf"{ROOT}/jobs/{JOB}/live", job.JobLive),
    (rf"{ROOT}/jobs/{JOB}/curves", job.JobCurves),
    (rf"{ROOT}/jobs/{JOB}/system", job.JobSystem),
    (rf"{ROOT}/jobs/{JOB}/log", job.JobLog),
    (rf"{ROOT}/jobs/{JOB}/(metrics\.csv|log\.txt)", job.JobExport),
    (rf"{ROOT}/jobs/{JOB}/files/(.+)", job.JobFile),
    (rf"{ROOT}/jobs/{JOB}/edit", job.JobEdit),
    (rf"{ROOT}/jobs/{JOB}/(cancel|finish|pause|resume|archive|unarchive|delete)", job.JobAction),
    *_view("/compare", "/data", compare.comparison, "ns_compare.html", "jobs", "Compare jobs"),
    *_view("/models", "/-/data", models.listed, "ns_models.html", "models", "Models"),
    *_view(f"/models/({NAME})", "/data", models.model, "ns_model.html", "models"),
    (rf"{ROOT}/models/({NAME})/history", ViewData, {"view": models.history}),
    (rf"{ROOT}/models/({NAME})/aliases", models.MoveAlias),
    (rf"{ROOT}/models/({NAME})/rollback", models.RollBack),
    (rf"{ROOT}/models/({NAME})/describe", models.Describe),
    (rf"{ROOT}/models/({NAME})/register", models.RegisterJob),
    (rf"{ROOT}/models/({NAME})/versions/({NAME})/files", models.VersionFiles),
    (rf"{ROOT}/models/({NAME})/versions/([1-9][0-9]{{0,8}})/describe", models.ChangeVersion),
    *_view("/datasets", "/-/data", datasets.listed, "ns_datasets.html", "datasets", "Data sets"),
    (rf"{ROOT}/datasets/-/add", AddVersion),
    *_view(f"/datasets/({REF})", "/data", datasets.dataset, "ns_dataset.html", "datasets"),
    (rf"{ROOT}/datasets/({REF})/sample", datasets.DatasetSample),
    (rf"{ROOT}/datasets/({NAME})/versions/([1-9][0-9]{{0,8}})/delete", datasets.DeleteVersion),
    *_view("/schedules", "/-/data", schedules.listed, "ns_schedules.html", "schedules", "Schedules"),
    (rf"{ROOT}/schedules/-/preview", schedules.Preview),
    (rf"{ROOT}/schedules/-/add", schedules.AddSchedule),
    (rf"{ROOT}/schedules/({NAME})", schedules.SchedulePage),
    (rf"{ROOT}/schedules/({NAME})/data", ViewData, {"view": schedules.schedule}),
    (rf"{ROOT}/schedules/({NAME})/history", ViewData, {"view": schedules.history}),
    (rf"{ROOT}/schedules/({NAME})/run", schedules.RunNow),
    (rf"{ROOT}/schedules/({NAME})/change", schedules.ChangeSchedule),
    (rf"{ROOT}/schedules/({NAME})/delete", schedules.DeleteSchedule),
    (rf"{ROOT}/schedules/({NAME})/(pause|resume)", schedules.PauseOrResume),
    (rf"{ROOT}/devices", devices.DevicesPage),
    (rf"{ROOT}/devices/data", ViewData, {"view": devices.fleet}),
    (rf"{ROOT}/devices/history", ViewData, {"view": devices.past}),
    (rf"{ROOT}/.*", Missing),
]
