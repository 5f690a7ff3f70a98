"""Results of the API: dictionaries whose fields are also attributes, with a short repr.

Fields that are not declared here, as a newer server may send, are kept and read in the same two ways.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar


class Resource(dict[str, Any]):
    """Base of the results. `model.name` is `model["name"]`; `dict(model)` is the plain dictionary."""

    #: The fields that the repr shows, in this order, where they are not empty.
    _SHOWN: ClassVar[tuple[str, ...]] = ("name",)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            fields = ", ".join(self) or "none"
            raise AttributeError(f"{type(self).__name__} has no field {name!r}; it has: {fields}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __repr__(self) -> str:
        shown = (f"{name}={self[name]!r}" for name in self._SHOWN if self.get(name) not in (None, "", [], {}))
        return f"<{type(self).__name__} {' '.join(shown)}>"


R = TypeVar("R", bound=Resource)


def each(kind: type[R], items: Iterable[dict[str, Any]]) -> list[R]:
    """Return the items of a collection as resources of this kind."""
    return [kind(item) for item in items]


class Worker(Resource):
    """A worker, its device and its current job."""

    name: str
    host: str
    state: str
    device: str
    device_name: str
    memory_bytes: int | None
    frameworks: list[str]
    job_id: str | None
    started_at: str
    heartbeat_at: str
    _SHOWN = ("name", "state", "device", "job_id")


class Family(Resource):
    """A model family: its presets, and the JSON schemas of its settings."""

    name: str
    kinds: list[str]
    frameworks: list[str]
    dataset_kind: str
    default_preset: str
    presets: dict[str, Any]
    model_schema: dict[str, Any]
    training_schema: dict[str, Any]
    _SHOWN = ("name", "frameworks", "kinds")


class InstalledProgram(Resource):
    """A program that jobs of kind `run` may name; `error` says why it cannot be used."""

    name: str
    package: str | None
    description: str
    framework: str | None
    dataset_kinds: list[str]
    promise: str | None
    params_schema: dict[str, Any] | None
    error: str | None
    _SHOWN = ("name", "package", "error")


class DatasetVersion(Resource):
    """One version of a data set. `rows`: number of images or documents by split."""

    version: int
    sha256: str
    rows: dict[str, int]
    created_at: str
    _SHOWN = ("version", "rows")


class Dataset(Resource):
    """A data set at its newest version. Only `Client.dataset` gives its `versions`."""

    name: str
    version: int | None
    kind: str | None
    builtin: bool
    sha256: str | None
    size_bytes: int | None
    classes: list[str] | None
    splits: dict[str, Any] | None
    owner: str | None
    created_at: str | None
    _SHOWN = ("name", "version", "kind")

    @property
    def versions(self) -> list[DatasetVersion]:
        """All versions of the data set."""
        return each(DatasetVersion, self["versions"])


class ModelVersion(Resource):
    """One version of a registered model."""

    name: str
    version: int
    job_id: str | None
    family: str
    framework: str
    dataset: str | None
    parent: str | None
    metrics: dict[str, Any]
    description: str | None
    tags: dict[str, str]
    created_at: str
    _SHOWN = ("name", "version", "family", "framework")


class Model(Resource):
    """A registered model, its `champion` and `aliases`. Only `Client.model` gives its `versions`."""

    name: str
    family: str
    framework: str
    latest_version: int
    updated_at: str
    description: str | None
    aliases: dict[str, int]
    owner: str | None
    _SHOWN = ("name", "family", "latest_version", "aliases")

    @property
    def champion(self) -> ModelVersion | None:
        """The version that the model's name alone refers to; None if there is none."""
        if "champion" in self:
            return ModelVersion(self["champion"], name=self["name"]) if self["champion"] else None
        number = self["aliases"].get("champion")
        return next((version for version in self.versions if version["version"] == number), None)

    @property
    def versions(self) -> list[ModelVersion]:
        """All versions of the model, newest first."""
        return each(ModelVersion, self["versions"])


class Comparison(Resource):
    """Two versions of a model side by side. `metrics`: name -> `a`, `b` and `difference` (b - a)."""

    name: str
    same_dataset: bool
    metrics: dict[str, dict[str, Any]]

    @property
    def a(self) -> ModelVersion:
        """The first version."""
        return ModelVersion(self["a"])

    @property
    def b(self) -> ModelVersion:
        """The second version."""
        return ModelVersion(self["b"])


class Schedule(Resource):
    """A schedule and its next tick."""

    id: str
    name: str
    cron: str
    timezone: str
    job: dict[str, Any]
    enabled: bool
    next_at: str | None
    last_tick: dict[str, Any] | None
    _SHOWN = ("name", "cron", "timezone", "next_at")


class Webhook(Resource):
    """A webhook. Only `Client.add_webhook` and `Client.rotate_webhook` give its `secret`."""

    id: str
    name: str
    url: str
    events: list[str]
    enabled: bool
    _SHOWN = ("name", "url", "enabled")


class Delivery(Resource):
    """The delivery of one event to a webhook."""

    id: str
    event_id: str
    event_type: str
    state: str
    attempts: int
    status: int | None
    error: str | None
    _SHOWN = ("id", "event_type", "state", "attempts")
