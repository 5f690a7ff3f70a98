"""Our Tornado handlers inside Flower. They precede Flower's own, so a path here replaces Flower's page."""

from __future__ import annotations

from typing import Any

import tornado.web
from flower.views.monitor import Metrics as FlowerMetrics

from api.flower import owner_view
from api.flower.pages import archive, compare, datasets, devices, job, jobs, models, schedules, submit, tasks
from api.flower.pages.base import Assets, Handler, Missing
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
    (rf"{ROOT}/jobs/{JOB}/(cancel|finish|pause|resume)", job.JobAction),
    (rf"{ROOT}/jobs/{JOB}/(archive|unarchive|delete)", archive.ArchiveJob),
    (rf"{ROOT}/compare", compare.ComparePage),
    (rf"{ROOT}/compare/data", compare.CompareData),
    (rf"{ROOT}/models", models.ModelsPage),
    (rf"{ROOT}/models/-/data", models.ModelsData),
    (rf"{ROOT}/models/({NAME})", models.ModelPage),
    (rf"{ROOT}/models/({NAME})/data", models.ModelData),
    (rf"{ROOT}/models/({NAME})/history", models.ModelHistory),
    (rf"{ROOT}/models/({NAME})/aliases", models.MoveAlias),
    (rf"{ROOT}/models/({NAME})/rollback", models.RollBack),
    (rf"{ROOT}/models/({NAME})/describe", models.Describe),
    (rf"{ROOT}/models/({NAME})/register", models.RegisterJob),
    (rf"{ROOT}/models/({NAME})/versions/({NAME})/files", models.VersionFiles),
    (rf"{ROOT}/models/({NAME})/versions/([1-9][0-9]{{0,8}})/describe", models.ChangeVersion),
    (rf"{ROOT}/datasets", datasets.DatasetsPage),
    (rf"{ROOT}/datasets/-/data", datasets.DatasetsData),
    (rf"{ROOT}/datasets/-/add", AddVersion),
    (rf"{ROOT}/datasets/({REF})", datasets.DatasetPage),
    (rf"{ROOT}/datasets/({REF})/data", datasets.DatasetData),
    (rf"{ROOT}/datasets/({REF})/sample", datasets.DatasetSample),
    (rf"{ROOT}/datasets/({NAME})/versions/([1-9][0-9]{{0,8}})/delete", datasets.DeleteVersion),
    (rf"{ROOT}/schedules", schedules.SchedulesPage),
    (rf"{ROOT}/schedules/-/data", schedules.SchedulesData),
    (rf"{ROOT}/schedules/-/preview", schedules.Preview),
    (rf"{ROOT}/schedules/-/add", schedules.AddSchedule),
    (rf"{ROOT}/schedules/({NAME})", schedules.SchedulePage),
    (rf"{ROOT}/schedules/({NAME})/data", schedules.ScheduleData),
    (rf"{ROOT}/schedules/({NAME})/history", schedules.ScheduleHistory),
    (rf"{ROOT}/schedules/({NAME})/run", schedules.RunNow),
    (rf"{ROOT}/schedules/({NAME})/change", schedules.ChangeSchedule),
    (rf"{ROOT}/schedules/({NAME})/delete", schedules.DeleteSchedule),
    (rf"{ROOT}/schedules/({NAME})/(pause|resume)", schedules.PauseOrResume),
    (rf"{ROOT}/devices", devices.DevicesPage),
    (rf"{ROOT}/devices/data", devices.DevicesData),
    (rf"{ROOT}/devices/history", devices.DevicesHistory),
    (rf"{ROOT}/.*", Missing),
]
