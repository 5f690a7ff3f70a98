"""The calls of `Client` and `AsyncClient`, and those of `Job` and `AsyncJob`, as methods."""

from __future__ import annotations

from typing import Any, Self

from nightshift.client import model_requests, requests, webhook_requests
from nightshift.client.downloads import JobFacts
from nightshift.client.methods import new_job, of_job, sent, updating
from nightshift.client.requests import Call
from nightshift.client.types import JobData


class ClientCalls:
    """The calls of both clients."""

    def _job(self, data: JobData) -> Any:
        raise NotImplementedError

    def _new_job(self, call: Call[JobData]) -> Call[Any]:
        return self._job((yield from call))

    submit, job = new_job(requests.submit), new_job(requests.job)
    workers, families = sent(requests.workers), sent(requests.families)

    datasets, dataset = sent(requests.datasets), sent(requests.dataset)
    add_dataset, append_to_dataset = sent(requests.add_dataset), sent(requests.append_to_dataset)
    delete_dataset_version = sent(requests.delete_dataset_version)

    webhooks, webhook = sent(webhook_requests.webhooks), sent(webhook_requests.webhook)
    add_webhook, change_webhook = sent(webhook_requests.add_webhook), sent(webhook_requests.change_webhook)
    remove_webhook, rotate_webhook = sent(webhook_requests.remove_webhook), sent(webhook_requests.rotate_webhook)
    test_webhook, redeliver = sent(webhook_requests.test_webhook), sent(webhook_requests.redeliver)
    deliveries, delivery = sent(webhook_requests.deliveries), sent(webhook_requests.delivery)

    models, model = sent(model_requests.models), sent(model_requests.model)
    promote, rollback = sent(model_requests.promote), sent(model_requests.rollback)
    delete_version, compare = sent(model_requests.delete_version), sent(model_requests.compare)
    model_history, register_model = sent(model_requests.model_history), sent(model_requests.register_model)
    describe_model, change_version = sent(model_requests.describe_model), sent(model_requests.change_version)

    schedules, schedule = sent(model_requests.schedules), sent(model_requests.schedule)
    add_schedule, change_schedule = sent(model_requests.add_schedule), sent(model_requests.change_schedule)
    delete_schedule, preview_schedule = sent(model_requests.delete_schedule), sent(model_requests.preview_schedule)
    schedule_history, run_schedule = sent(model_requests.schedule_history), new_job(model_requests.run_schedule)


class JobCalls(JobFacts):
    """The calls of both jobs."""

    def _updated(self, call: Call[JobData]) -> Call[Self]:
        self.data = yield from call
        return self

    refresh, edit, delete = updating(requests.refresh), updating(requests.edit), of_job(requests.delete)
    cancel, finish = updating(requests.cancel), updating(requests.finish)
    pause, resume = updating(requests.pause), updating(requests.resume)
    archive, unarchive = updating(requests.archive), updating(requests.unarchive)

    why, metrics, logs = of_job(requests.why), of_job(requests.metrics), of_job(requests.logs)
    attempts, checkpoints, system = of_job(requests.attempts), of_job(requests.checkpoints), of_job(requests.system)
