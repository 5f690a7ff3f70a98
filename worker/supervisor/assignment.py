"""A runner's assignment, and the references that the first attempt pins for all later ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from nightshift.errors import RequestError
from shared.datasets.builtins import BUILTIN
from shared.datasets.models import DatasetVersion
from shared.datasets.registry import ensure_builtin
from shared.datasets.registry import resolve as resolve_dataset
from shared.fleet.plugins import InstalledPlugin, family_plugin, program_plugin
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.job_files.layout import attempt_dir, dataset_dir, job_dir
from shared.jobs import queries
from shared.jobs.states import StopRequest
from shared.jobs.transitions import Claimed
from shared.models import aliases
from shared.models.registry import resolve as resolve_model
from worker.hardware.idle_cores import threads_of_run
from worker.runners.messages import Assignment, Champion, Shard, ShardParts
from worker.supervisor.context import WorkerContext
from worker.supervisor.db_retry import DatabaseRetry


@dataclass(frozen=True)
class ShardsLeft:
    """The parts that the shards of a job left, and whether one of them was found damaged."""

    parts: dict[str, list[CheckpointRecord]]
    damaged: bool


def shards_left(claimed: Claimed, database: DatabaseRetry) -> ShardsLeft | None:
    """Return what the shards of a job left; None: it was not divided, or is a shard."""
    if "shards" not in claimed.pinned or "shard" in claimed.pinned:
        return None
    return ShardsLeft(*database.read(lambda conn: queries.shard_parts(conn, claimed.lease.job_id)))


def resolve_references(context: WorkerContext, claimed: Claimed, database: DatabaseRetry) -> dict[str, Any]:
    """Return the data set versions and parent model that no earlier attempt pinned. Raises RequestError."""
    spec, pinned = claimed.spec, claimed.pinned
    facts: dict[str, Any] = {}
    if spec.get("dataset") and "dataset_sha256" not in pinned:
        facts |= _dataset_facts(context, str(spec["dataset"]), database)
    if (promote := spec.get("promote")) and "evaluate_sha256" not in pinned:
        evaluated_on = _version_of(context, str(promote["evaluate_on"]), database)
        facts |= {"evaluate_on": f"{evaluated_on.name}@{evaluated_on.version}", "evaluate_sha256": evaluated_on.sha256}
    if spec.get("model_ref") and "parent" not in pinned:
        facts |= _parent_facts(str(spec["model_ref"]), claimed.owner_id, database)
    if "shard" in pinned and "threads" not in pinned:
        facts["threads"] = threads_of_run(context.settings)  # results are bitwise equal only for the same number
    if "plugin" not in pinned and (plugin := plugin_of(context, spec, {**facts, **pinned})) is not None:
        facts["plugin"] = {
            "plugin": plugin.plugin, "package": plugin.package, "record": plugin.record,
            "state_version": plugin.state_version, "promise": plugin.promise,
        }  # fmt: skip
    return facts


def plugin_of(context: WorkerContext, spec: Mapping[str, Any], pinned: Mapping[str, Any]) -> InstalledPlugin | None:
    """Return this worker's version of the family or program that the job runs."""
    program, model = spec.get("program"), spec.get("model") or {}
    family = str(model.get("family") or pinned.get("family"))
    wanted = program_plugin(str(program)) if program else family_plugin(family)
    return next((plugin for plugin in context.plugins if plugin.plugin == wanted), None)


def package_facts(plugin: InstalledPlugin | None, pinned: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Return the package of the family or program, and the one that the job began with if it is another: not exact."""
    if plugin is None:
        return {}
    is_other = pinned is not None and pinned["record"] != plugin.record
    return {"package": plugin.package, "begun_by": pinned["package"] if pinned and is_other else None}


def _dataset_facts(context: WorkerContext, ref: str, database: DatabaseRetry) -> dict[str, Any]:
    version = _version_of(context, ref, database)
    return {"dataset": f"{version.name}@{version.version}", "dataset_sha256": version.sha256}


def _version_of(context: WorkerContext, ref: str, database: DatabaseRetry) -> DatasetVersion:
    if ref in BUILTIN:
        return database.wait(lambda: ensure_builtin(context.engine, context.settings, ref))
    return database.read(lambda conn: resolve_dataset(conn, ref))


def _parent_facts(ref: str, owner_id: str, database: DatabaseRetry) -> dict[str, Any]:
    model = database.read(lambda conn: resolve_model(conn, ref, owner_id))
    parent = {"ref": ref, "folder": model.folder, "name": model.name, "version": model.version}
    return {"parent": parent, "family": model.family, "parent_framework": model.framework}


def champion_now(conn: Connection, spec: Mapping[str, Any], root: Path) -> Champion:
    """Return the version that `promote.alias` points at, with the folder of its model."""
    name, alias = spec["register_as"], spec["promote"]["alias"]
    version = aliases.current(conn, name, alias)
    if version is None:
        return Champion()
    try:
        model = resolve_model(conn, f"{name}@{version}")
    except RequestError:
        return Champion(version=version)
    return Champion(version=version, model_dir=str(root / model.folder), family=model.family)


def assignment_of(
    context: WorkerContext,
    claimed: Claimed,
    pinned: Mapping[str, Any],
    secrets: Mapping[str, str] | None = None,
    divided: ShardsLeft | None = None,
) -> Assignment:
    """Return the runner's assignment, and create the attempt's folder."""
    root, lease = context.settings.storage_root, claimed.lease
    work = attempt_dir(root, lease.job_id, lease.fence)
    os.makedirs(work / "artifacts", exist_ok=True)
    parent = pinned.get("parent")
    plain: dict[str, Any] = {"part": "device", "device": context.device.kind}
    return Assignment(
        job_id=lease.job_id,
        fence=lease.fence,
        spec=claimed.spec,
        job_dir=str(job_dir(root, lease.job_id)),
        work_dir=str(work),
        dataset=pinned.get("dataset"),
        dataset_dir=str(dataset_dir(root, sha256)) if (sha256 := pinned.get("dataset_sha256")) else None,
        parent_model_dir=str(root / parent["folder"]) if parent else None,
        evaluate_dir=str(dataset_dir(root, sha256)) if (sha256 := pinned.get("evaluate_sha256")) else None,
        resume=claimed.checkpoints,
        devices=list(claimed.devices) if len(claimed.devices) > 1 else [],
        threads=pinned.get("threads") or threads_of_run(context.settings),
        engine=pinned.get("engine"),
        finish=claimed.stop_requested is StopRequest.FINISH,
        **(plain | _of_shards(root, pinned, divided)),
        **package_facts(plugin_of(context, claimed.spec, pinned), pinned.get("plugin")),
        secrets=dict(secrets or {}),
    )


def _of_shards(root: Path, pinned: Mapping[str, Any], divided: ShardsLeft | None) -> dict[str, Any]:
    """Return what a shard computes, or what a job merges that was divided: on a device if a part is damaged."""
    if "shard" in pinned:
        return {"shard": Shard(place=pinned["shard"], shards=pinned["shards"])}
    if divided is None:
        return {}
    found = [ShardParts(job_dir=str(job_dir(root, shard)), parts=parts) for shard, parts in divided.parts.items()]
    return {"divided": found} | ({} if divided.damaged else {"part": "merging", "device": "cpu"})
