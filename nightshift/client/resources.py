"""Results of the API: dictionaries whose fields are also attributes, with a short repr.

Fields that are not declared here, as a newer server may send, are kept and read in the same two ways. The API builds
its response models from these classes (`api/shapes.py`); a text in `Annotated` describes the field.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from nightshift.names import Availability


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
    state: Annotated[
        str,
        "online, not_listening (lost its queue and is reconnecting), device_failed (left its device: "
        "`left_because`), disk_full (its disk has no room for a job: `left_because`), draining or offline (no "
        "heartbeat for a lease)",
    ]
    device: Literal["cpu", "gpu"]
    device_name: str
    memory_bytes: int | None
    frameworks: Annotated[list[str], "The frameworks that work on its device."]
    unusable: Annotated[dict[str, str], "Why other installed frameworks do not work on its device, by name."]
    takes_auto: Annotated[bool, "Whether it takes jobs for any device; false: only those that require its device."]
    left_because: Annotated[str | None, "Why it left its device, or has no room on its disk; null: it takes jobs."]
    versions: dict[str, Any]
    job_id: Annotated[str | None, "The job on its device; null for another owner's job."]
    finishing_job_ids: Annotated[list[str], "Jobs that have left its device and still store their results."]
    usage: dict[str, Any] | None
    started_at: str
    heartbeat_at: str
    _SHOWN = ("name", "state", "device", "job_id")


class Device(Resource):
    """A device in the ledger, and the attempt that holds it."""

    id: Annotated[str, "The UUID of a GPU; of a CPU slot the name of its worker."]
    host: str
    kind: Literal["cpu", "gpu"]
    worker: Annotated[str | None, "The worker that serves it; null: another device has taken its place."]
    model: str
    memory_bytes: int | None
    labels: Annotated[list[str], "What jobs may require by `resources.labels`."]
    state: Annotated[str, "The state of its worker."]
    cordoned_at: Annotated[str | None, "Since then no attempt takes it; null: it may be taken."]
    is_held: bool
    holder: Annotated[str | None, "The worker whose attempt holds it."]
    job_id: Annotated[str | None, "The job that holds it; null for another owner's job."]
    attempt: Annotated[int | None, "The attempt of that job."]
    held_since: str | None
    _SHOWN = ("id", "host", "state", "job_id")


class Family(Resource):
    """A model family: its presets, and the JSON schemas of its settings; `error` says why it cannot be used."""

    name: str
    package: Annotated[str | None, "The package that brings it, with its version."]
    description: str
    kinds: Annotated[list[str], "Kinds of job that this version's workers run for it."]
    frameworks: list[str]
    dataset_kind: str
    default_preset: str
    presets: Annotated[dict[str, Any], "Each preset in full: `model` and its `training` defaults."]
    model_schema: Annotated[dict[str, Any], "JSON schema of `model`; any field overrides the preset's."]
    training_schema: Annotated[dict[str, Any], "JSON schema of `training`."]
    promise: Annotated[
        str | None,
        "What a resumed run is worth: `exact` (the same bits, shown by `nightshift families check`) or `resumable`.",
    ]
    error: Annotated[str | None, "Why it cannot be used; null: it can."]
    _SHOWN = ("name", "frameworks", "kinds")


class LayerRow(Resource):
    """A row of a model's summary: a layer, or a weight where the family declares no layers."""

    name: str
    kind: Annotated[str, "What it is, such as `convolution 3x3, relu`."]
    shape: Annotated[list[int | None], "Of the output for one row of data (height, width, channels); null: any length."]
    parameters: Annotated[int, "Numbers that are trained."]
    fixed: Annotated[int, "Numbers that are kept and not trained, such as running statistics."]
    _SHOWN = ("name", "kind", "shape", "parameters")


class ModelSummary(Resource):
    """The layers of a model with shapes and numbers of parameters; `error` says why there are none."""

    family: str
    framework: str
    preset: str
    rows: Annotated[
        str, "What the rows are: `layers`, or `weights` of a trained model whose family declares no layers."
    ]
    layers: Annotated[list[LayerRow] | None, "In the order of the network; null: see `error`."]
    parameters: Annotated[int | None, "Numbers that are trained, of all layers."]
    fixed: Annotated[int | None, "Numbers that are kept and not trained."]
    bytes: Annotated[int | None, "Of all numbers in float32, as a trained model is stored."]
    facts: Annotated[dict[str, Any], "What the layers depend on beside the settings, such as `classes`: supposed."]
    error: Annotated[str | None, "Why there are no layers; null: there are."]
    dataset: Annotated[str | None, "The data set that the facts are of, with its version; null: a typical one."]
    model: Annotated[dict[str, Any], "The complete settings."]
    _SHOWN = ("family", "preset", "parameters")


class InstalledProgram(Resource):
    """A program that jobs of kind `run` may name; `error` says why it cannot be used."""

    name: str
    package: Annotated[str | None, "The package that brings it, with its version."]
    description: str
    framework: str | None
    dataset_kinds: Annotated[list[str], "Kinds of data sets that it reads; empty: none."]
    promise: Annotated[
        str | None,
        "What a resumed run is worth: `exact` (the same bits, shown by `nightshift programs check`), `resumable` or "
        "`restart` (a new start).",
    ]
    metrics: Annotated[dict[str, dict[str, Any]], "Its own metrics by name: {label, better}."]
    evaluates: Annotated[bool, "Whether its models can be compared (`promote`), by those metrics with a better side."]
    params_schema: Annotated[dict[str, Any] | None, "JSON schema of `params`."]
    error: Annotated[str | None, "Why it cannot be used; null: it can."]
    _SHOWN = ("name", "package", "error")


class Owned(Resource):
    """A resource that every key may use and only its owner may change."""

    owner: Annotated[str | None, "Name of the owner's first key; null: no owner."]
    yours: Annotated[bool, "Whether this key's owner owns it."]
    may_change: Annotated[bool, "Whether this key may change it: yours, or without an owner and not built in."]


class DatasetVersion(Resource):
    """One version of a data set."""

    version: int
    sha256: str
    rows: Annotated[
        dict[str, int], "Number of images or documents in each part, of the rows of a table, or of the files."
    ]
    created_at: str
    _SHOWN = ("version", "rows")


class Dataset(Owned):
    """A data set at its newest version. Only `Client.dataset` gives its `versions`."""

    name: str
    version: Annotated[int | None, "Newest version; null for a built-in set that is not registered yet."]
    kind: Annotated[str | None, "image, text, files or table."]
    builtin: bool
    availability: Annotated[
        Availability,
        "Whether a job can use it. A built-in set is registered by the first job, from local files (`on_first_use`) "
        "or by a download; `unavailable`: downloads are off.",
    ]
    sha256: str | None
    size_bytes: int | None
    classes: list[str] | None
    tags: Annotated[list[str] | None, "Names of the tags of tokens, of sentences with tags."]
    image: Annotated[list[int] | None, "Height, width, channels."]
    split: Annotated[str | None, "Where the test part comes from; null for files and tables, which are not divided."]
    splits: Annotated[
        dict[str, Any] | None,
        "Counts, and histogram of classes or tags, of each part; of a table `rows`, of files `files`.",
    ]
    created_at: str | None
    _SHOWN = ("name", "version", "kind")

    @property
    def versions(self) -> list[DatasetVersion]:
        """All versions of the data set."""
        return each(DatasetVersion, self["versions"])

    @property
    def preview(self) -> dict[str, Any] | None:
        """A look at the columns and first rows of a table, or at the first files; None for images and text."""
        return self["preview"]  # type: ignore[no-any-return]


class ModelVersion(Resource):
    """One version of a registered model."""

    name: str
    version: int
    job_id: Annotated[str | None, "The job that created it; null for another owner's job."]
    family: str
    framework: str
    dataset: str | None
    parent: Annotated[str | None, "The model that it was fine-tuned from."]
    metrics: dict[str, Any]
    description: str | None
    tags: dict[str, str]
    created_at: str
    _SHOWN = ("name", "version", "family", "framework")


class Model(Owned):
    """A registered model, its `champion` and `aliases`. Only `Client.model` gives its `versions`."""

    name: str
    family: str
    framework: str
    latest_version: int
    updated_at: str
    description: str | None
    aliases: dict[str, int]
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
    job: Annotated[dict[str, Any], "The complete spec, with templates in name and tags."]
    enabled: bool
    catch_up: str
    catch_up_limit: int
    max_lateness_seconds: float | None
    overlap: str
    skip_if_unchanged: bool
    next_at: Annotated[str | None, "The next tick; null while paused."]
    next_at_local: str | None
    last_tick: dict[str, Any] | None
    created_at: str
    updated_at: str
    _SHOWN = ("name", "cron", "timezone", "next_at")


class Webhook(Resource):
    """A webhook. Only `Client.add_webhook` and `Client.rotate_webhook` give its `secret`."""

    id: str
    name: str
    url: str
    events: list[str]
    tags: dict[str, str]
    match: str | None
    format: str
    enabled: bool
    disabled_reason: Annotated[str | None, "Why Nightshift disabled it; null if a user did."]
    old_secret_until: Annotated[str | None, "Until then the previous secret signs as well."]
    created_at: str
    updated_at: str
    _SHOWN = ("name", "url", "enabled")


class Delivery(Resource):
    """The delivery of one event to a webhook."""

    id: str
    event_id: Annotated[str, "Header `webhook-id`, the same for every attempt."]
    event_type: str
    state: str
    attempts: int
    status: Annotated[int | None, "HTTP status of the last answer."]
    error: Annotated[str | None, "Error of the last attempt."]
    milliseconds: float | None
    created_at: str
    next_at: Annotated[str | None, "Time of the next attempt; null when settled."]
    settled_at: str | None
    _SHOWN = ("id", "event_type", "state", "attempts")
