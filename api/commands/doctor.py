"""Checks of `nightshift check`: whether each part that the settings name is usable, with a remedy if it is not.

A missing part that `nightshift up` would start is a note; a part that a setting names and that does not answer is a
failure.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from api.commands import gpu_probe
from nightshift.cli.render import output
from nightshift.entry_points import names_of
from nightshift.errors import ConfigurationError, NightshiftError
from nightshift.names import FRAMEWORKS
from nightshift.versions import installed
from shared.fleet.cores import available_cores
from shared.fleet.gpus import VISIBLE, refuse_memory_limit, visible_gpus
from shared.fleet.nvml import Gpu
from shared.settings import Settings, load_settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

Level = Literal["ok", "note", "fails"]

#: Less free space than this (bytes) gets a note: checkpoints and data sets fill a disk fast.
LITTLE_SPACE = 5_000_000_000


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    part: str
    level: Level
    detail: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the finding for JSON output."""
        return asdict(self)


def read_settings(data_dir: str | None) -> Settings:
    """Return the settings. Raises ConfigurationError that names each wrong variable, never its value."""
    return load_settings(**({"data_dir": Path(data_dir)} if data_dir else {}))


def run(data_dir: str | None = None) -> list[Finding]:
    """Run all checks."""
    try:
        settings = read_settings(data_dir)
    except ConfigurationError as error:
        advice = "`nightshift check --settings` lists each with its meaning."
        return [Finding("settings", "fails", line, advice) for line in str(error).splitlines()]
    found = [Finding("settings", "ok", f"environment {settings.environment}, data in {settings.data_dir.resolve()}")]
    for part, check in PARTS.items():
        found.extend(_guarded(part, check, settings))
    return found


def _guarded(part: str, check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    """Yield a check's findings; an exception in it becomes a finding, too."""
    try:
        yield from check(settings)
    except NightshiftError as error:
        yield Finding(part, "fails", str(error))
    except Exception as error:
        yield Finding(part, "fails", f"{type(error).__name__}: {error}")


# -- database -------------------------------------------------------------------------------------


def database(settings: Settings) -> Iterator[Finding]:
    """Check that the database answers and its schema is current."""
    from sqlalchemy import make_url, text

    from shared.db.engine import make_engine, read
    from shared.db.revision import is_current

    url = make_url(settings.sql_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        yield Finding(
            "database", "note", f"{shown} does not exist yet", "`nightshift up` or `nightshift migrate` creates it."
        )
        return
    engine = make_engine(settings.sql_url)
    try:
        with read(engine) as conn:
            conn.execute(text("SELECT 1"))
        yield Finding("database", "ok", shown)
        if is_current(engine):
            yield Finding("migrations", "ok", "the schema is up to date")
            yield counters_of(engine)
        else:
            yield Finding("migrations", "fails", "the schema is not up to date", "Run `nightshift migrate`.")
    except NightshiftError as error:
        advice = "Start the database, or correct NIGHTSHIFT_DATABASE_URL."
        yield Finding("database", "fails", f"{shown} does not answer: {error.__cause__ or error}", advice)
    finally:
        engine.dispose()


def counters_of(engine: Engine) -> Finding:
    """Return whether counting all jobs, attempts and deliveries gives what their counters say."""
    from shared.db.counters import differences
    from shared.db.engine import read

    with read(engine) as conn:
        if engine.dialect.name == "postgresql":
            conn.execution_options(isolation_level="REPEATABLE READ")
        found = differences(conn)
    if not found:
        return Finding("counters", "ok", "the counters of jobs, attempts and deliveries are right")
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return Finding("counters", "fails", f"{'; '.join(found[:3])}{more}", "Run `nightshift migrate --recount`.")


# -- broker ---------------------------------------------------------------------------------------


def broker(settings: Settings) -> Iterator[Finding]:
    """Check that Redis answers and is configured for queues."""
    import redis

    from shared.celery_app import refuse_cluster

    refuse_cluster(settings)
    secret = settings.redis_url.get_secret_value()
    shown = without_password(secret)
    try:
        with redis.Redis.from_url(secret, socket_connect_timeout=2, socket_timeout=2) as server:
            info: Any = server.info()
            policy = info.get("maxmemory_policy", "noeviction")
    except (redis.RedisError, ValueError) as error:
        named = "redis_url" in settings.model_fields_set
        advice = (
            "Start Redis, or correct NIGHTSHIFT_REDIS_URL." if named else "Not needed: `nightshift up` starts its own."
        )
        yield Finding("broker", "fails" if named else "note", f"{shown} does not answer: {error}", advice)
        return
    if info.get("cluster_enabled"):
        yield Finding("broker", "fails", f"{shown} is a cluster", "Use one Redis or Valkey server.")
    elif policy != "noeviction" and int(info.get("maxmemory") or 0):
        yield Finding("broker", "note", f"{shown} evicts keys when full ({policy})", "Set maxmemory-policy noeviction.")
    else:
        yield Finding("broker", "ok", f"{shown}, version {info.get('redis_version')}")


def without_password(url: str) -> str:
    """Return a URL with its password masked."""
    scheme, _, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}:***@{host}" if at else url


# -- files ----------------------------------------------------------------------------------------


def storage(settings: Settings) -> Iterator[Finding]:
    """Check that the storage can be written and has free space."""
    from shared.storage import storage_of

    root, store = settings.storage_root, storage_of(settings)
    store.check_access(thoroughly=True)
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        advice = "Grant this user write permission, or set NIGHTSHIFT_DATA_DIR."
        yield Finding("storage", "fails", f"{existing} cannot be written: {error.strerror}", advice)
        return
    free = shutil.disk_usage(existing).free
    detail = f"{store.location}{'' if existing == root else ' (not created yet)'}, {output.size(free)} free"
    if free < LITTLE_SPACE:
        yield Finding("storage", "note", detail, "Checkpoints and data sets need space.")
    else:
        yield Finding("storage", "ok", detail)


def datasets(settings: Settings) -> Iterator[Finding]:
    """Check the folder of published data set files, if one is set."""
    folder = settings.datasets_dir
    if folder is not None and not folder.is_dir():
        yield Finding("data sets", "fails", f"{folder} is not a folder", "Correct or unset NIGHTSHIFT_DATASETS_DIR.")
    elif folder is not None:
        yield Finding("data sets", "ok", f"published files in {folder}")


def families(settings: Settings) -> Iterator[Finding]:
    """List the allowed families, also those that cannot be used."""
    from api.services.spec_form_schema import family_views

    yield from _plugins("families", family_views(), "NIGHTSHIFT_FAMILIES")


def programs(settings: Settings) -> Iterator[Finding]:
    """List the allowed programs, also those that cannot be used."""
    from api.services import programs as installed_here

    yield from _plugins("programs", installed_here.views(settings), "NIGHTSHIFT_PROGRAMS")


def _plugins(part: str, views: Iterable[Mapping[str, Any]], setting: str) -> Iterator[Finding]:
    """List plug-ins. One that cannot be used fails nothing else."""
    usable = [f"{view['name']} ({view['package']})" for view in views if view["error"] is None]
    if usable:
        yield Finding(part, "ok", ", ".join(usable))
    advice = f"Correct or uninstall its package, or leave it out of {setting}."
    for view in views:
        if view["error"] is not None:
            yield Finding(part, "note", f"{view['name']} cannot be used: {view['error']}", advice)


# -- resources for a worker -----------------------------------------------------------------------


def devices(settings: Settings) -> Iterator[Finding]:
    """List the devices and frameworks that a worker on this machine could use, and try each framework on each GPU."""
    wanted = names_of(settings.frameworks) or FRAMEWORKS
    found = {name: number for name in FRAMEWORKS if name in wanted and (number := installed(name))}
    shown = ", ".join(f"{name} {number}" for name, number in found.items())
    advice = "A worker on this machine needs one: pip install 'nightshift[torch]' or 'nightshift[tensorflow]'."
    yield Finding("frameworks", "ok", shown) if shown else Finding("frameworks", "note", "none installed", advice)
    gpus = visible_gpus()
    if not gpus.gpus and not gpus.problems:
        yield Finding("devices", "ok", f"no GPU ({gpus.absent}); the CPU with {available_cores()} cores")
    for problem in gpus.problems:
        yield Finding("devices", "fails", str(problem), f"`nvidia-smi` says more. Mend it, or hide it by {VISIBLE}.")
    for gpu in gpus.gpus:
        yield gpu_finding(gpu, {name: gpu_probe.problem_of(gpu, name) for name in found})
    if gpus.gpus and settings.runner_memory_limit_bytes is not None:
        refuse_memory_limit(settings)


def gpu_finding(gpu: Gpu, problems: Mapping[str, str | None]) -> Finding:
    """Return what works on a GPU. `problems`: by installed framework, None: it works."""
    part = f"gpu{gpu.index}"
    texts = [f"{name} {'works' if why is None else f'does not work: {why}'}" for name, why in problems.items()]
    memory = f" ({output.size(gpu.memory_bytes)})" if gpu.memory_bytes is not None else ""
    detail = f"{gpu.name}{memory}, {gpu.uuid}; {'; '.join(texts) or 'no framework is installed'}"
    working = [name for name, why in problems.items() if why is None]
    if len(working) == len(problems):
        return Finding(part, "ok", detail)
    if working:
        return Finding(part, "note", detail, "Jobs of that framework need another worker (docs/howto/gpus.md).")
    return Finding(part, "fails", detail, "A worker here would leave this device (docs/howto/gpus.md).")


# -- the API --------------------------------------------------------------------------------------


def api(settings: Settings) -> Iterator[Finding]:
    """Check that the API answers, accepts the key and has online workers."""
    from nightshift.client.client import Client
    from nightshift.errors import Unauthorized, Unavailable

    with Client(retries=0) as client:
        url = client.endpoint.url
        try:
            online = [worker for worker in client.workers() if worker.get("state") == "online"]
        except Unauthorized as error:
            yield Finding(
                "api", "fails", f"{url} refuses the key: {error}", "Set NIGHTSHIFT_API_KEY; `nightshift keys create`."
            )
        except Unavailable as error:
            yield Finding("api", "note", str(error))
        else:
            yield Finding("api", "ok", url)
            advice = "" if online else "Jobs wait for one: `nightshift up` or `nightshift worker`."
            yield Finding("workers", "ok" if online else "note", f"{len(online)} online", advice)


PARTS: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "database": database,
    "broker": broker,
    "storage": storage,
    "data sets": datasets,
    "devices": devices,
    "families": families,
    "programs": programs,
    "api": api,
}
