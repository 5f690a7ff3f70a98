"""Our Tornado handlers inside Flower. They are asked before Flower's own, so a path here replaces Flower's page."""

from __future__ import annotations

from typing import Any

import tornado.web
from flower.views.monitor import Metrics as FlowerMetrics

from api.flower_pages import (
    compare_page,
    datasets_page,
    devices_page,
    filing_page,
    job_page,
    jobs_page,
    models_page,
    schedules_page,
    seen,
    submit_page,
    task_pages,
)
from api.flower_pages.page import Assets, Handler, Missing
from api.flower_pages.receiving import AddVersion
from api.flower_pages.site import ROOT
from api.flower_pages.templating import STATIC


class Metrics(FlowerMetrics):  # type: ignore[misc]
    """Flower shows its Prometheus metrics (worker and task names) to anybody; ours wants a key."""

    @tornado.web.authenticated
    async def get(self) -> None:
        await super().get()


class Home(Handler):
    """Flower's first page is its workers, which stay at `/workers`; what people come for are the jobs."""

    def get(self) -> None:
        self.redirect(self.site.url("/jobs"))


#: A job's id in an address.
JOB = r"([0-9a-f]{16})"
#: Of a model or schedule in an address.
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
#: Of a data set, or of one of its versions.
REF = rf"{NAME}(?:@[1-9][0-9]{{0,8}})?"

#: Rules as in `tornado.web.Application`, below the URL prefix. Handlers of ours inherit from page.py, which asks for a key.
HANDLERS: list[Any] = [
    (r"/", Home),
    (r"/metrics", Metrics),
    (r"/tasks/datatable", seen.Table),
    (r"/worker/(.+)", seen.Worker),
    (r"/api/tasks", seen.Tasks),
    (r"/api/task/info/(.*)", seen.Task),
    (r"/api/workers", seen.Workers),
    *task_pages.HANDLERS,
    (rf"{ROOT}/static/(.*)", Assets, {"path": str(STATIC)}),
    (rf"{ROOT}/jobs", jobs_page.JobsPage),
    (rf"{ROOT}/jobs/data", jobs_page.JobsData),
    (rf"{ROOT}/jobs/columns", jobs_page.JobsColumns),
    (rf"{ROOT}/jobs/new", submit_page.NewJob),
    (rf"{ROOT}/jobs/submit", submit_page.Submit),
    (rf"{ROOT}/jobs/{JOB}", job_page.JobPage),
    (rf"{ROOT}/jobs/{JOB}/live", job_page.JobLive),
    (rf"{ROOT}/jobs/{JOB}/curves", job_page.JobCurves),
    (rf"{ROOT}/jobs/{JOB}/system", job_page.JobSystem),
    (rf"{ROOT}/jobs/{JOB}/log", job_page.JobLog),
    (rf"{ROOT}/jobs/{JOB}/(metrics\.csv|log\.txt)", job_page.JobExport),
    (rf"{ROOT}/jobs/{JOB}/files/(.+)", job_page.JobFile),
    (rf"{ROOT}/jobs/{JOB}/edit", job_page.JobEdit),
    (rf"{ROOT}/jobs/{JOB}/(cancel|finish|pause|resume)", job_page.JobAction),
    (rf"{ROOT}/jobs/{JOB}/(archive|unarchive|delete)", filing_page.FileJob),
    (rf"{ROOT}/compare", compare_page.ComparePage),
    (rf"{ROOT}/compare/data", compare_page.CompareData),
    (rf"{ROOT}/models", models_page.ModelsPage),
    (rf"{ROOT}/models/-/data", models_page.ModelsData),
    (rf"{ROOT}/models/({NAME})", models_page.ModelPage),
    (rf"{ROOT}/models/({NAME})/data", models_page.ModelData),
    (rf"{ROOT}/models/({NAME})/history", models_page.ModelHistory),
    (rf"{ROOT}/models/({NAME})/aliases", models_page.MoveAlias),
    (rf"{ROOT}/models/({NAME})/rollback", models_page.RollBack),
    (rf"{ROOT}/models/({NAME})/describe", models_page.Describe),
    (rf"{ROOT}/models/({NAME})/register", models_page.RegisterJob),
    (rf"{ROOT}/models/({NAME})/versions/({NAME})/files", models_page.VersionFiles),
    (rf"{ROOT}/models/({NAME})/versions/([1-9][0-9]{{0,8}})/describe", models_page.ChangeVersion),
    (rf"{ROOT}/datasets", datasets_page.DatasetsPage),
    (rf"{ROOT}/datasets/-/data", datasets_page.DatasetsData),
    (rf"{ROOT}/datasets/-/add", AddVersion),
    (rf"{ROOT}/datasets/({REF})", datasets_page.DatasetPage),
    (rf"{ROOT}/datasets/({REF})/data", datasets_page.DatasetData),
    (rf"{ROOT}/datasets/({REF})/sample", datasets_page.DatasetSample),
    (rf"{ROOT}/datasets/({NAME})/versions/([1-9][0-9]{{0,8}})/delete", datasets_page.DeleteVersion),
    (rf"{ROOT}/schedules", schedules_page.SchedulesPage),
    (rf"{ROOT}/schedules/-/data", schedules_page.SchedulesData),
    (rf"{ROOT}/schedules/-/preview", schedules_page.Preview),
    (rf"{ROOT}/schedules/-/add", schedules_page.AddSchedule),
    (rf"{ROOT}/schedules/({NAME})", schedules_page.SchedulePage),
    (rf"{ROOT}/schedules/({NAME})/data", schedules_page.ScheduleData),
    (rf"{ROOT}/schedules/({NAME})/history", schedules_page.ScheduleHistory),
    (rf"{ROOT}/schedules/({NAME})/run", schedules_page.RunNow),
    (rf"{ROOT}/schedules/({NAME})/change", schedules_page.ChangeSchedule),
    (rf"{ROOT}/schedules/({NAME})/delete", schedules_page.DeleteSchedule),
    (rf"{ROOT}/schedules/({NAME})/(pause|resume)", schedules_page.PauseOrResume),
    (rf"{ROOT}/devices", devices_page.DevicesPage),
    (rf"{ROOT}/devices/data", devices_page.DevicesData),
    (rf"{ROOT}/devices/history", devices_page.DevicesHistory),
    (rf"{ROOT}/.*", Missing),
]
