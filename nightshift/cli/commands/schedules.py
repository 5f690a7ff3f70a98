"""`nightshift schedules`: jobs that come by themselves."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nightshift.cli import completion, payload
from nightshift.cli.errors import CommandGroup
from nightshift.cli.options import AsJson, client
from nightshift.cli.registry import COMMANDS
from nightshift.errors import InvalidRequest

app = typer.Typer(
    cls=CommandGroup,
    help=COMMANDS["schedules"].help,
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
)

Schedule = Annotated[
    str, typer.Argument(metavar="SCHEDULE", help="Its name or id.", autocompletion=completion.schedules)
]
Cron = Annotated[str | None, typer.Option(help='minute hour day-of-month month day-of-week, e.g. "0 2 * * *".')]
Zone = Annotated[str | None, typer.Option("--tz", help="IANA time zone, e.g. Europe/Berlin; UTC if not given.")]
File = Annotated[
    str | None,
    typer.Option("-f", "--file", metavar="FILE", help="The job as JSON; - is stdin. Name and tags: {date}, {tick}."),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Any field of the job. Repeatable.")
]
CatchUp = Annotated[str | None, typer.Option(help="Missed ticks: none, latest or all.")]
CatchUpLimit = Annotated[int | None, typer.Option(help="The most that `all` makes up for.")]
MaxLateness = Annotated[float | None, typer.Option(help="Ticks later than this are missed (seconds).")]
Overlap = Annotated[str | None, typer.Option(help="While its last job is not done: skip, queue or cancel_running.")]
Unchanged = Annotated[
    bool | None,
    typer.Option(
        "--skip-if-unchanged/--always",
        help="Make no job while data, settings and parent are those of the last success.",
    ),
]
Limit = Annotated[int, typer.Option("-n", "--limit", help="The most that are shown.")]


@app.callback()
def _default(ctx: typer.Context, as_json: AsJson = False) -> None:
    if not ctx.invoked_subcommand:
        list_schedules(ctx, as_json)


@app.command("list")
def list_schedules(ctx: typer.Context, as_json: AsJson = False) -> None:
    """All schedules, with their next time and what became of the last."""
    from nightshift.cli.render import output

    found = client(ctx).schedules()
    if as_json:
        return output.print_items(found)
    columns = [output.Column("NAME"), output.Column("CRON", 2), output.Column("ZONE", 3), output.Column("NEXT")]
    rows = [
        [
            item["name"],
            item["cron"],
            item["timezone"],
            item["next_at_local"] if item["enabled"] else "paused",
            (last := item["last_tick"] or {}).get("outcome"),
            last.get("job_id"),
        ]
        for item in found
    ]
    columns += [output.Column("LAST", 1), output.Column("JOB", 4)]
    output.print_table(columns, rows, "No schedules. `nightshift schedules add NAME --cron '0 2 * * *' -f job.json`")
    return None


@app.command("add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, which no other schedule of yours has.")],
    cron: Annotated[str, typer.Option(help='minute hour day-of-month month day-of-week, e.g. "0 2 * * *".')],
    timezone: Zone = None,
    file: File = None,
    set_: Sets = None,
    catch_up: CatchUp = None,
    catch_up_limit: CatchUpLimit = None,
    max_lateness: MaxLateness = None,
    overlap: Overlap = None,
    skip_if_unchanged: Unchanged = None,
    paused: Annotated[bool, typer.Option("--paused", help="Make it, and wait for `resume`.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a job by the clock, e.g. `schedules add nightly --cron "0 2 * * *" --tz Europe/Berlin -f job.json`."""
    body = {
        "name": name,
        **_given(cron, timezone, file, set_, catch_up, catch_up_limit, max_lateness, overlap, skip_if_unchanged),
    }
    if "job" not in body:
        raise InvalidRequest("Which job? Give it with -f job.json (or -f -), or with --set.")
    _tell(client(ctx).add_schedule({**body, **({"enabled": False} if paused else {})}), as_json)


@app.command("change")
def change(
    ctx: typer.Context,
    schedule: Schedule,
    cron: Cron = None,
    timezone: Zone = None,
    file: File = None,
    set_: Sets = None,
    catch_up: CatchUp = None,
    catch_up_limit: CatchUpLimit = None,
    max_lateness: MaxLateness = None,
    overlap: Overlap = None,
    skip_if_unchanged: Unchanged = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; the rest stays. --set without -f changes fields of its present job."""
    asked = client(ctx)
    job = dict(asked.schedule(schedule)["job"]) if set_ and not file else None
    body = _given(cron, timezone, file, set_, catch_up, catch_up_limit, max_lateness, overlap, skip_if_unchanged, job)
    if not body:
        raise InvalidRequest(
            "Change what? Give an option, such as --cron or --set; `schedules change --help` lists them."
        )
    _tell(asked.change_schedule(schedule, **body), as_json)


def _given(
    cron: str | None,
    timezone: str | None,
    file: str | None,
    sets: list[str] | None,
    catch_up: str | None,
    catch_up_limit: int | None,
    max_lateness: float | None,
    overlap: str | None,
    skip_if_unchanged: bool | None,
    job: dict[str, Any] | None = None,
) -> dict[str, Any]:
    body: dict[str, Any] = {}
    payload.put_options(
        body,
        {
            "cron": cron,
            "timezone": timezone,
            "catch_up": catch_up,
            "catch_up_limit": catch_up_limit,
            "max_lateness_seconds": max_lateness,
            "overlap": overlap,
            "skip_if_unchanged": skip_if_unchanged,
        },
    )
    if file or sets:
        body["job"] = payload.read(file) if file else job or {}
        payload.assign(body["job"], sets or [])
    return body


def _tell(shown: dict[str, Any], as_json: bool) -> None:
    from nightshift.cli.render import output

    if as_json:
        return output.print_json(shown)
    print(shown["id"])
    output.print_note(
        f"{shown['name']}: next at {shown['next_at_local']}" if shown["enabled"] else f"{shown['name']}: paused"
    )
    return None


@app.command("show")
def show(ctx: typer.Context, schedule: Schedule, as_json: AsJson = False) -> None:
    """A schedule and its job."""
    from nightshift.cli.render import output

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
    """The next times, in its own zone and in UTC."""
    from nightshift.cli.render import output

    found = client(ctx).preview_schedule(schedule, limit)
    if as_json:
        return output.print_items(found)
    columns = [output.Column("LOCAL"), output.Column("UTC"), output.Column("TICK", 1)]
    output.print_table(columns, [[item["local"], item["utc"], item["tick"]] for item in found], "It never comes.")
    return None


@app.command("history")
def history(ctx: typer.Context, schedule: Schedule, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Its ticks, newest first, and what became of each."""
    from nightshift.cli.render import output

    found = client(ctx).schedule_history(schedule, limit)
    if as_json:
        return output.print_items(found)
    columns = [output.Column("DUE"), output.Column("OUTCOME"), output.Column("JOB", 1), output.Column("STATE", 2)]
    rows = [
        [
            item["due_at_local"],
            f"{item['outcome']} by hand" if item["manual"] else item["outcome"],
            item["job_id"],
            output.state_text(item["job_state"] or ""),
            item["reason"],
        ]
        for item in found
    ]
    output.print_table([*columns, output.Column("WHY", 3)], rows, "No tick so far.")
    return None


@app.command("run")
def run(
    ctx: typer.Context,
    schedule: Schedule,
    follow: Annotated[
        bool, typer.Option("--follow", help="Stay until it ends; exit code 0 succeeded, 1 failed, 2 cancelled.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Submit its job now, also while it is paused. Prints the job's id."""
    job = client(ctx).run_schedule(schedule)
    if follow:
        from nightshift.cli.commands.jobs import follow_jobs

        return follow_jobs([job], as_json=as_json)
    if as_json:
        from nightshift.cli.render.output import print_json

        return print_json(job.data)
    return typer.echo(job.id)


@app.command("pause")
def pause(ctx: typer.Context, schedule: Schedule) -> None:
    """No more ticks until `resume`; they are not made up for."""
    print(f"{client(ctx).change_schedule(schedule, enabled=False)['name']} paused")


@app.command("resume")
def resume(ctx: typer.Context, schedule: Schedule) -> None:
    """Go on with the next tick from now."""
    shown = client(ctx).change_schedule(schedule, enabled=True)
    print(f"{shown['name']} next at {shown['next_at_local']}")


@app.command("delete")
def delete(ctx: typer.Context, schedule: Schedule) -> None:
    """Delete it with its history. Jobs that it has made go on."""
    client(ctx).delete_schedule(schedule)
    print(f"{schedule} deleted")
