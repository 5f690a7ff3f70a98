"""`nightshift schedules`: commands for jobs that are submitted at set times."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nightshift.cli import completion, payload
from nightshift.cli.options import AsJson, client, with_options
from nightshift.cli.registry import group
from nightshift.cli.render import output
from nightshift.cli.render.tables import Field, print_items
from nightshift.errors import InvalidRequest

app = group("schedules")

Schedule = Annotated[
    str, typer.Argument(metavar="SCHEDULE", help="Name or id of the schedule.", autocompletion=completion.schedules)
]
Cron = Annotated[str | None, typer.Option(help='minute hour day-of-month month day-of-week, e.g. "0 2 * * *".')]
Zone = Annotated[str | None, typer.Option("--tz", help="IANA time zone, e.g. Europe/Berlin; default: UTC.")]
File = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--file",
        metavar="FILE",
        help="The job as JSON; - reads stdin. Its name and tags may contain {date} and {tick}.",
    ),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Set any field of the job. Repeatable.")
]
CatchUp = Annotated[str | None, typer.Option(help="Which missed ticks to run: none, latest or all.")]
CatchUpLimit = Annotated[int | None, typer.Option(help="Largest number of missed ticks that `all` runs.")]
MaxLateness = Annotated[float | None, typer.Option(help="Delay after which a tick counts as missed (seconds).")]
Overlap = Annotated[str | None, typer.Option(help="While its last job is unfinished: skip, queue or cancel_running.")]
Unchanged = Annotated[
    bool | None,
    typer.Option(
        "--skip-if-unchanged/--always",
        help="Skip a tick while data, settings and parent model are unchanged since the last success.",
    ),
]
Limit = Annotated[int, typer.Option("-n", "--limit", help="Number of rows.")]

FIELDS = {
    "name": Field("name"),
    "cron": Field("cron", 2),
    "zone": Field("timezone", 3),
    "next": Field(lambda item: item["next_at_local"] if item["enabled"] else "paused"),
    "last": Field(lambda item: (item["last_tick"] or {}).get("outcome"), 1),
    "job": Field(lambda item: (item["last_tick"] or {}).get("job_id"), 4),
}
PREVIEW_FIELDS = {"local": Field("local"), "utc": Field("utc"), "tick": Field("tick", 1)}
HISTORY_FIELDS = {
    "due": Field("due_at_local"),
    "outcome": Field(lambda item: f"{item['outcome']} by hand" if item["manual"] else item["outcome"]),
    "job": Field("job_id", 1),
    "state": Field(lambda item: output.state_text(item["job_state"] or ""), 2),
    "why": Field("reason", 3),
}


@app.callback()
def _default(ctx: typer.Context, as_json: AsJson = False) -> None:
    if not ctx.invoked_subcommand:
        list_schedules(ctx, as_json)


@app.command("list")
def list_schedules(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the schedules, with their next time and last outcome."""
    empty = "No schedules. Add one: `nightshift schedules add NAME --cron '0 2 * * *' -f job.json`"
    print_items(client(ctx).schedules(), FIELDS, empty, as_json=as_json)


def _body(
    timezone: Zone = None,
    file: File = None,
    set_: Sets = None,
    catch_up: CatchUp = None,
    catch_up_limit: CatchUpLimit = None,
    max_lateness: MaxLateness = None,
    overlap: Overlap = None,
    skip_if_unchanged: Unchanged = None,
) -> dict[str, Any]:
    """Return the fields of a schedule that these options give."""
    body: dict[str, Any] = {}
    payload.put_options(
        body,
        {
            "timezone": timezone,
            "catch_up": catch_up,
            "catch_up_limit": catch_up_limit,
            "max_lateness_seconds": max_lateness,
            "overlap": overlap,
            "skip_if_unchanged": skip_if_unchanged,
        },
    )
    if file or set_:
        body["job"] = _job(payload.read(file) if file else {}, set_)
    return body


def _job(job: dict[str, Any], sets: list[str] | None) -> dict[str, Any]:
    payload.assign(job, sets or [])
    return job


@app.command("add")
@with_options(_body)
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the schedule, unique among yours.")],
    cron: Annotated[str, typer.Option(help='minute hour day-of-month month day-of-week, e.g. "0 2 * * *".')],
    *,
    paused: Annotated[bool, typer.Option("--paused", help="Create it paused, until `resume`.")] = False,
    as_json: AsJson = False,
    **given: Any,
) -> None:
    """Submit a job at set times, e.g. `schedules add nightly --cron "0 2 * * *" --tz Europe/Berlin -f job.json`."""
    body = {"name": name, "cron": cron, **_body(**given)}
    if "job" not in body:
        raise InvalidRequest("The job is missing: give it with -f job.json (or -f -), or with --set.")
    _print_changed(client(ctx).add_schedule({**body, **({"enabled": False} if paused else {})}), as_json)


@app.command("change")
@with_options(_body)
def change(ctx: typer.Context, schedule: Schedule, cron: Cron = None, *, as_json: AsJson = False, **given: Any) -> None:
    """Change the given fields of a schedule. --set without -f changes fields of its current job."""
    api, body = client(ctx), _body(**given) | ({} if cron is None else {"cron": cron})
    if given["set_"] and not given["file"]:
        body["job"] = _job(dict(api.schedule(schedule)["job"]), given["set_"])
    if not body:
        raise InvalidRequest(
            "Nothing to change: give an option, such as --cron or --set; `schedules change --help` lists them."
        )
    _print_changed(api.change_schedule(schedule, **body), as_json)


def _print_changed(shown: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return output.print_json(shown)
    print(shown["id"])
    output.print_note(
        f"{shown['name']}: next at {shown['next_at_local']}" if shown["enabled"] else f"{shown['name']}: paused"
    )
    return None


@app.command("show")
def show(ctx: typer.Context, schedule: Schedule, as_json: AsJson = False) -> None:
    """Show a schedule and its job."""
    shown = client(ctx).schedule(schedule)
    if as_json:
        return output.print_json(shown)
    last = shown["last_tick"]
    names = ("id", "name", "cron", "timezone", "catch_up", "catch_up_limit", "max_lateness_seconds", "overlap")
    facts: list[tuple[str, Any]] = [(name.replace("_", " "), shown[name]) for name in names]
    facts.append(("next", f"{shown['next_at_local']}  ({shown['next_at']})" if shown["enabled"] else "paused"))
    facts.append(("last", f"{last['due_at']}  {last['outcome']}  {last['job_id'] or ''}".strip() if last else None))
    job = shown["job"]
    facts.append(("job", f"{job['kind']}  {job.get('name') or ''}  {job.get('dataset') or ''}".rstrip()))
    output.print_facts(facts)
    return None


@app.command("preview")
def preview(ctx: typer.Context, schedule: Schedule, limit: Limit = 10, as_json: AsJson = False) -> None:
    """List the next times of a schedule, in its own time zone and in UTC."""
    found = client(ctx).preview_schedule(schedule, limit)
    print_items(found, PREVIEW_FIELDS, "The schedule has no next time.", as_json=as_json)


@app.command("history")
def history(ctx: typer.Context, schedule: Schedule, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the past ticks of a schedule with their outcomes, newest first."""
    found = client(ctx).schedule_history(schedule, limit)
    print_items(found, HISTORY_FIELDS, "The schedule has no ticks yet.", as_json=as_json)


@app.command("run")
def run(
    ctx: typer.Context,
    schedule: Schedule,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Follow the job until it ends. Exit code: 0 succeeded, 1 failed, 2 cancelled."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a schedule's job now, even while it is paused. Prints the job's id."""
    job = client(ctx).run_schedule(schedule)
    if follow:
        from nightshift.cli.commands.jobs import follow_jobs

        return follow_jobs([job], as_json=as_json)
    if as_json:
        return output.print_json(job.data)
    return typer.echo(job.id)


@app.command("pause")
def pause(ctx: typer.Context, schedule: Schedule) -> None:
    """Pause a schedule until `resume`. Ticks in between are not run later."""
    print(f"{client(ctx).change_schedule(schedule, enabled=False)['name']} paused")


@app.command("resume")
def resume(ctx: typer.Context, schedule: Schedule) -> None:
    """Resume a schedule with its next tick."""
    shown = client(ctx).change_schedule(schedule, enabled=True)
    print(f"{shown['name']} next at {shown['next_at_local']}")


@app.command("delete")
def delete(ctx: typer.Context, schedule: Schedule) -> None:
    """Delete a schedule and its history. Jobs it has submitted are not affected."""
    client(ctx).delete_schedule(schedule)
    print(f"{schedule} deleted")
