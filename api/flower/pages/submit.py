"""The form for a new job, empty or filled from an existing one. Its fields are generated from the specs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import tornado.web

from api.flower.pages.base import Action, Page
from api.services import dataset_fit, model_summary, programs, reruns, submission
from api.services.spec_errors import parse, parse_spec
from api.services.spec_form_schema import family_views, forms, model_fields, param_fields
from api.services.submission import Submission
from nightshift.errors import InvalidRequest
from shared.datasets.builtins import BUILTIN, BUILTIN_KIND, availability
from shared.datasets.models import DatasetVersion
from shared.datasets.views import newest_versions
from shared.db.engine import read
from shared.jobs import queries
from shared.models.registry import list_models
from shared.specs.families import FAMILIES
from shared.specs.summaries import SummaryOf


class NewJob(Page):
    """The form; `?like=ID` fills it from that job's spec."""

    tab = "jobs"

    async def get(self) -> None:
        if self.site.read_only:
            raise tornado.web.HTTPError(403, "Flower is read-only here (NIGHTSHIFT_FLOWER_READ_ONLY).")
        like = self.text_argument("like", 16)
        found = await self.query(lambda conn: self._data(conn, like))
        origin = found["origin"]
        title = f"Run {origin['name'] or origin['id'][:8]} again" if origin else "New job"
        self.show("ns_submit.html", title, found, origin=origin)

    def _data(self, conn: Any, like: str | None) -> dict[str, Any]:
        origin = _origin(queries.get_job(conn, like, self.owner)) if like else None
        datasets = {name: self._unregistered(name) for name in BUILTIN}
        datasets |= {version.name: _dataset(version) for version in newest_versions(conn)}
        return {
            "origin": origin,
            "forms": forms(),
            "families": [_family(view) for view in family_views() if not view["error"]],
            "datasets": list(datasets.values()),
            "models": [
                {"name": row["name"], "family": row["family"]} for row in list_models(conn) if row["family"] in FAMILIES
            ],
            "programs": self._programs(),
            # The Idempotency-Key: a form that is sent twice creates one job.
            "token": secrets.token_hex(12),
        }

    def _programs(self) -> list[dict[str, Any]]:
        """Return the programs that can be used, with the fields of their parameters."""
        return [
            {key: view[key] for key in _OF_A_PROGRAM} | {"fields": param_fields(view["params_schema"])}
            for view in programs.views(self.site.settings)
            if view["error"] is None
        ]

    def _unregistered(self, name: str) -> dict[str, Any]:
        able = [family for family in FAMILIES.offered if FAMILIES[family].dataset_kind == BUILTIN_KIND]
        there = availability(self.site.settings, name)
        return {"name": name, "kind": BUILTIN_KIND, "availability": there, "families": able, "columns": []}


_OF_A_PROGRAM = ("name", "description", "dataset_kinds")
_OF_A_FAMILY = ("name", "kinds", "frameworks", "dataset_kind", "default_preset", "presets")


def _family(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return a family with the fields of its model, and what its training may be augmented by."""
    family = FAMILIES[view["name"]]
    return {key: view[key] for key in _OF_A_FAMILY} | {
        "fields": model_fields(family),
        "augmentations": sorted(family.augmentations),
    }


def _dataset(version: DatasetVersion) -> dict[str, Any]:
    """Return a data set with the families that can learn from it, and the columns of a table."""
    columns = (version.summary.get("preview") or {}).get("columns") or []
    return {
        "name": version.name,
        "kind": version.summary["kind"],
        "availability": "registered",
        "families": dataset_fit.learners_of(version),
        "columns": [column["name"] for column in columns],
    }


def _origin(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the copied job. `registered_as` is the model it registered; the copied spec registers none."""
    spec = row["spec"]
    return {
        "id": row["id"],
        "name": row["name"],
        "spec": reruns.copy_of(spec),
        "dataset": row["pinned"].get("dataset"),
        "registered_as": spec.get("register_as"),
    }


async def submit(handler: Action) -> dict[str, Any]:
    """Submit a job of the key's owner: {spec, like?, token?} -> {id}."""
    asked = handler.body()
    like, token = asked.get("like"), asked.get("token")
    spec: Any = asked.get("spec")
    if not all(value is None or isinstance(value, str) for value in (like, token)):
        raise InvalidRequest.field(("like",), "must be the id of a job")

    def work() -> str:
        parsed, origin = parse_spec(spec), None
        if like is not None:
            with read(handler.site.engine) as conn:
                origin = queries.get_job(conn, like, handler.owner)
        new = Submission(handler.principal.owner_id, parsed, spec, token, origin=origin)
        return submission.submit(handler.site.service, new)[1].job_id

    return {"id": await handler.off_loop(work)}


async def layers(handler: Action) -> dict[str, Any]:
    """Return the layers of a model that the form describes: {model, dataset?} -> as `POST /v1/families/summary`."""
    asked = parse(handler.body(), SummaryOf)
    return await handler.off_loop(lambda: model_summary.of_model(handler.site.service, asked))
