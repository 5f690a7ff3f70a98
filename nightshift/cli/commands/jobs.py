"""Commands that show and control jobs: jobs, show, watch, logs, artifacts, why, cancel, finish and others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightshift.cli import completion, suggestions
from nightshift.cli.commands.metrics import metrics
from nightshift.cli.errors import CommandGroup
from nightshift.cli.options import AsJson, JobId, JobIds, client, find_job, find_jobs
from nightshift.cli.registry import COMMANDS
from nightshift.cli.render import output, tables
from nightshift.cli.render.job_columns import FIELDS, other
from nightshift.names import KINDS, either

if TYPE_CHECKING:
    from nightshift.client.client import Job
    from nightshift.client.types import Event


#: Values of --columns and --sort besides the fields of a job.
MORE = ", or any metric or setting, such as test_accuracy or training.learning_rate"

ARTIFACT_FIELDS = {
    "path": tables.Field("path"),
    "size": tables.Field(lambda item: output.size(item["size_bytes"]), 1, right=True),
    "type": tables.Field("media_type", 2),
    "sha-256": tables.Field("sha256", 3),
}
ATTEMPT_FIELDS = {
    "attempt": tables.Field("attempt", right=True),
    "outcome": tables.Field(lambda item: item.get("outcome") or "running"),
    "worker": tables.Field("worker", 2),
    "resumed at step": tables.Field(lambda item: _resumed(item), 1, right=True),
    "time": tables.Field(lambda item: output.between(item.get("started_at"), item.get("ended_at")), 3, right=True),
    "peak memory": tables.Field(lambda item: output.size(item.get("peak_memory_bytes")), 4, right=True),
    "error": tables.Field(lambda item: (item.get("error") or {}).get("message"), 5),
}
SHARD_FIELDS = {
    "shard": tables.Field("shard", right=True),
    "id": tables.Field("id"),
    "state": FIELDS["state"],
    "done": FIELDS["done"],
    "worker": tables.Field("worker", 1),
    "error": tables.Field(lambda item: (item.get("error") or {}).get("message"), 2),
}
CHECKPOINT_FIELDS = {
    "step": tables.Field("step", right=True),
    "epoch": tables.Field("epoch", 1, right=True),
    "state": tables.Field("state"),
    "best": tables.Field(lambda item: "best" if item.get("is_best") else "", 1),
    "size": tables.Field(lambda item: output.size(item.get("size_bytes")), 2, right=True),
    "age": tables.Field(lambda item: output.age(item.get("created_at")), 2, right=True),
    "sha-256": tables.Field("sha256", 3),
}


def jobs(
    ctx: typer.Context,
    state: Annotated[
        str | None,
        typer.Option(
            help="waiting, queued, running, paused, succeeded, failed or cancelled.", autocompletion=completion.states
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option(help=f"{either(KINDS)}.", autocompletion=completion.kinds)] = None,
    family: Annotated[str | None, typer.Option(help="A model family.", autocompletion=completion.families)] = None,
    tag: Annotated[str | None, typer.Option(metavar="NAME=VALUE", help="Only jobs with this tag.")] = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search", "-q", help="Words and conditions, e.g. 'nightly test_accuracy > 0.95 lr < 0.01 -state:failed'."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Number of jobs, newest first (or in the order of --sort); 0: all.")
    ] = 20,
    sort: Annotated[str | None, tables.sort_option(FIELDS, MORE)] = None,
    columns: Annotated[str | None, tables.columns_option(FIELDS, MORE)] = None,
    format: tables.FormatOption = tables.Format.TABLE,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first. E.g. `jobs --sort test_accuracy:desc --columns id,training.epochs,test_accuracy`."""
    # With --sort, all jobs are fetched and sorted before the limit applies.
    most = None if sort else limit or None
    found = client(ctx).jobs(state=state, kind=kind, family=family, tag=tag, search=search, limit=most)
    rows = [job.data for job in found]
    if sort:
        rows = tables.sorted_by(sort, rows, FIELDS, other)[: limit or None]
    as_json, wide = as_json or format is tables.Format.JSON, format is tables.Format.WIDE
    empty = "No jobs. Submit one with `nightshift submit train cnn --dataset digits`."
    tables.print_items(rows, FIELDS, empty, as_json=as_json, columns=columns, wide=wide, other=other)


def show(ctx: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job: state, progress, result, error, settings. --json includes its complete spec."""
    job = find_job(ctx, job_id)
    if as_json:
        return output.print_json(job.data)
    output.print_facts(_facts(job.data))
    if job.data.get("shards") and not job.data.get("part_of"):
        print()
        _print_shards(job.shards())
    if len(found := job.attempts()) > 1:
        print()
        _print_attempts(found)
    bad = [attempt for attempt in found if attempt.get("outcome") not in (None, "succeeded")]
    if bad and job.state != "succeeded":
        print(f"\nevidence of attempt {bad[0]['attempt']}")
        output.print_facts(_evidence(bad[0]))
    return None


def _evidence(attempt: Any) -> list[tuple[str, Any]]:
    """Return how an unsuccessful attempt ended: exit code, memory, last phase and last log lines."""
    kept = attempt.get("evidence") or {}
    where = [f"{name} {kept[name]}" for name in ("phase", "step") if kept.get(name) is not None]
    return [
        ("outcome", attempt["outcome"]),
        ("exit code", attempt.get("exit_code")),
        ("signal", attempt.get("signal")),
        ("peak memory", output.size(attempt.get("peak_memory_bytes"))),
        ("peak device memory", output.size(attempt.get("peak_device_memory_bytes"))),
        ("stopped at", where),
        ("last lines", "\n".join(output.printable(line) for line in kept.get("log_tail", [])[-5:])),
    ]


def _facts(job: Any) -> list[tuple[str, Any]]:
    progress, error, result = job.get("progress") or {}, job.get("error") or {}, job.get("result") or {}
    shown = {name: progress[name] for name in ("step", "total_steps", "epoch") if progress.get(name) is not None}
    return [
        ("id", job["id"]),
        ("name", job.get("name")),
        ("copy of", like_text(job.get("copied_from"))),
        ("shard of", f"{job['part_of']} ({job['shard']} of {job['shards']})" if job.get("part_of") else None),
        ("state", output.state_text(job["state"])),
        ("stop requested", job.get("stop_requested")),
        ("kind", job.get("kind")),
        ("family", job.get("family")),
        ("framework", job.get("framework")),
        ("data set", (pinned := job.get("pinned") or {}).get("dataset") or job.get("dataset")),
        ("evaluated on", pinned.get("evaluate_on")),
        ("program", (job.get("spec") or {}).get("program")),
        ("package", pinned.get("package")),
        ("promise", job.get("promise")),
        ("started from", pinned.get("model")),
        ("priority", job.get("priority")),
        ("tags", output.tag_texts(job)),
        ("notes", "\n".join(output.printable(line) for line in (job.get("notes") or "").splitlines())),
        ("attempt", job.get("attempt") or None),
        ("worker", job.get("worker")),
        ("device", job.get("device")),
        ("created", job.get("created_at")),
        ("run at", job.get("run_at") if job.get("run_at") != job.get("created_at") else None),
        ("started", job.get("started_at")),
        ("finished", job.get("finished_at")),
        (
            "took" if job.get("finished_at") else "so far",
            output.between(job["started_at"], job.get("finished_at")) if job.get("started_at") else None,
        ),
        ("progress", [f"{name} {value:,}" for name, value in shown.items()]),
        ("metrics", output.metric_facts(result.get("metrics") or {})),
        ("model", _model_ref(job["id"], result.get("model"))),
        ("promoted", promoted_text(result)),
        ("artifacts", [str(path) for path in result.get("artifacts") or []]),
        ("error", f"{error.get('type')}: {error.get('message')}" if error else None),
        *_settings(job.get("spec") or {}),
    ]


def like_text(origin: Any) -> str | None:
    """Return the job that a job is a copy of, and the changes."""
    if not origin:
        return None
    changes = [f"{one['path']} {_plain(one['before'])} -> {_plain(one['after'])}" for one in origin["changes"]]
    name = f" ({origin['name']})" if origin.get("name") else ""
    return f"{origin['id']}{name}" + (f", with {', '.join(changes)}" if changes else ", unchanged")


def promoted_text(result: dict[str, Any]) -> str | None:
    """Return whether a job with `promote` moved its alias, and why."""
    if "promotion" not in result:
        return None
    promotion = result["promotion"]
    alias = f"{promotion['name']}@{promotion['alias']}"
    if promotion["promoted"]:
        return f"yes, {alias} -> {promotion['version']}: {promotion['reason']}"
    return f"no, {alias} stays at {promotion['previous']}: {promotion['reason']}"


def _model_ref(job_id: str, model: Any) -> str | None:
    """Return the MODEL_REF of the job's model."""
    if not model:
        return None
    return str(model.get("registered") or f"job:{job_id}") if isinstance(model, dict) else str(model)


def _settings(spec: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the groups of a spec, one fact each, without null values."""
    return [
        (f"spec {name}", [f"{key} {_plain(value)}" for key, value in group.items() if value is not None])
        for name, group in spec.items()
        if isinstance(group, dict) and name != "tags"
    ]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def watch(
    ctx: typer.Context,
    job_ids: JobIds,
    logs: Annotated[
        int | None,
        typer.Option(min=0, help="Log lines per job (default 3). On a pipe: all lines if above 0 (default 0)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Follow jobs live until they end. Exit code: 0 succeeded, 1 failed, 2 cancelled (the highest of several)."""
    found = find_jobs(ctx, job_ids)
    suggestions.no_worker(client(ctx), found)
    follow_jobs(found, as_json=as_json, logs=logs)


def follow_jobs(jobs: Sequence[Job], *, as_json: bool, logs: int | None = None) -> None:
    """Follow the jobs until they end and exit with the outcome's code. Ctrl-C does not stop the jobs."""
    from nightshift.cli import follow

    def print_event(job: Job, event: Event) -> None:
        line = {"job": job.id, "id": event.id, "type": event.type, "at": event.at, "data": event.data}
        print(json.dumps(line, ensure_ascii=False), flush=True)

    try:
        code = follow.watch(jobs, output.console(), print_event if as_json else None, logs=logs)
    except KeyboardInterrupt:
        ids = " ".join(job.id for job in jobs)
        output.print_note(
            f"Still running. Follow again with `nightshift watch {ids}`, or stop with `nightshift cancel {ids}`."
        )
        code = 130
    raise typer.Exit(code)


def logs(
    ctx: typer.Context,
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until the job ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the log and the output of a job."""
    job = find_job(ctx, job_id)
    if follow:
        for event in job.events():
            if event.type == "log":
                line = {"seq": event.id, "at": event.at, **event.data}
                print(json.dumps(line, ensure_ascii=False) if as_json else output.log_line(event.at, line), flush=True)
        return None
    found = job.logs()
    if as_json:
        return output.print_items(found)
    for entry in found:
        print(output.log_line(entry.get("at"), entry))
    return None


def artifacts(
    ctx: typer.Context,
    job_id: JobId,
    download: Annotated[str | None, typer.Option(metavar="DIR", help="Download all files to this folder.")] = None,
    name: Annotated[list[str] | None, typer.Option(help="With --download: only this path. Repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the files of a job, or download them. Downloads are checked against their SHA-256."""
    job = find_job(ctx, job_id)
    if download is not None:
        for path in job.download(download, name):
            print(path)
        return None
    found = [artifact.data for artifact in job.artifacts()]
    return tables.print_items(found, ARTIFACT_FIELDS, "The job has no artifacts yet.", as_json=as_json)


def attempts(ctx: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """List the attempts of a job: worker, outcome, step at which it resumed."""
    _print_attempts(find_job(ctx, job_id).attempts(), as_json=as_json)


def _resumed(attempt: Any) -> str | None:
    """Return the step that an attempt resumed at; under another version of the program it is not exact."""
    step = attempt.get("resumed_step")
    begun_by = (attempt.get("environment") or {}).get("begun_by")
    return None if step is None else f"{step}{' (not exact)' if begun_by else ''}"


def _print_attempts(found: Sequence[Any], *, as_json: bool = False) -> None:
    tables.print_items(found, ATTEMPT_FIELDS, "The job has no attempts yet.", as_json=as_json)


def shards(ctx: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """List the shards of a batch inference: state, progress, worker."""
    _print_shards(find_job(ctx, job_id).shards(), as_json=as_json)


def _print_shards(found: Sequence[Any], *, as_json: bool = False) -> None:
    tables.print_items(found, SHARD_FIELDS, "The job is computed in one piece.", as_json=as_json)


def checkpoints(ctx: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """List the checkpoints of a job."""
    found = find_job(ctx, job_id).checkpoints()
    tables.print_items(found, CHECKPOINT_FIELDS, "The job has no checkpoints yet.", as_json=as_json)


def why(ctx: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Explain a job's state: why it waits, what it does, or how it ended."""
    answer = find_job(ctx, job_id).why()
    if as_json:
        return output.print_json(answer)
    print(f"{answer['id']} {answer['state']}")
    print(f"  {output.printable(answer['sentence'])}")
    for reason in answer["reasons"]:
        if reason["code"] == "attempt_ended":
            print(f"  {output.printable(reason['sentence'])}")
    return None


VERBS = ("cancel", "finish", "pause", "resume")


def _control(verb: str) -> Any:
    """Return the command that requests this of jobs."""

    def command(
        ctx: typer.Context,
        job_ids: JobIds,
        as_json: AsJson = False,
    ) -> None:
        from nightshift.cli.render import output

        done = [getattr(find_job(ctx, job_id), verb)() for job_id in job_ids]
        if as_json:
            return output.print_items([job.data for job in done])
        for job in done:
            wanted = job.data.get("stop_requested")
            print(f"{job.id} {job.state}" + (f" ({wanted} requested)" if wanted and not job.is_final else ""))
        return None

    command.__name__ = verb
    return command


app = typer.Typer(cls=CommandGroup, rich_markup_mode=None, add_completion=False)
for _command in (jobs, show, watch, logs, metrics, artifacts, attempts, shards, checkpoints, why):
    app.command()(_command)
for _verb in VERBS:
    app.command(_verb, help=COMMANDS[_verb].help)(_control(_verb))
