"""`nightshift sweep`: commands for sweeps, which search good settings of a job."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from nightshift.cli import payload
from nightshift.cli.options import AsJson, client, with_options
from nightshift.cli.registry import group
from nightshift.cli.render import output
from nightshift.cli.render.tables import Field, print_items
from nightshift.client.sweeps import Sweep
from nightshift.errors import InvalidRequest

app = group("sweep")

SweepId = Annotated[str, typer.Argument(metavar="SWEEP", help="The sweep's id, or its beginning while that is unique.")]
Limit = Annotated[int, typer.Option("-n", "--limit", help="Number of rows.")]

FIELDS = {
    "id": Field("id"),
    "name": Field("name", 3),
    "state": Field(lambda item: output.state_text(item["state"])),
    "trials": Field(lambda item: f"{item['started'] - item['running']}/{item['trials']}"),
    "metric": Field(lambda item: item["objective"]["metric"], 2),
    "best": Field(lambda item: output.number(item["best_value"]), key=lambda item: item["best_value"]),
    "sampler": Field("sampler", 4),
    "pruned": Field("pruned", 5),
    "created": Field("created_at", 6),
}


@app.callback()
def _default(ctx: typer.Context, as_json: AsJson = False) -> None:
    if not ctx.invoked_subcommand:
        list_sweeps(ctx, as_json=as_json)


@app.command("list")
def list_sweeps(ctx: typer.Context, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the sweeps, newest first."""
    empty = "No sweeps. Submit one: `nightshift sweep submit -f sweep.json`"
    print_items([sweep.data for sweep in client(ctx).sweeps(limit=limit)], FIELDS, empty, as_json=as_json)


def _body(
    file: Annotated[
        str | None, typer.Option("-f", "--file", metavar="FILE", help="The sweep as JSON; - reads stdin.")
    ] = None,
    job: Annotated[str | None, typer.Option(metavar="FILE", help="The job as JSON, instead of the sweep's.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Set any field of the job. Repeatable.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="PATH=VALUES",
            help="A parameter: choices (adam,sgd) or a range (16..64, 0..0.5:0.1 with a step, 1e-4..0.1:log). "
            "Repeatable.",
        ),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="The metric to improve, e.g. test_accuracy.")] = None,
    direction: Annotated[str | None, typer.Option(help="max or min; default: the metric's own.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of trials; default for a grid: all its points.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Most trials at a time.")] = None,
    sampler: Annotated[str | None, typer.Option(help="tpe, random, grid or cmaes.")] = None,
    pruner: Annotated[str | None, typer.Option(help="median, asha or none: finish bad trials early.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampler's draws.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the sweep and, with a number, of its jobs.")] = None,
    register_as: Annotated[str | None, typer.Option(help="Register the model of the best trial.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Give this schedule's jobs the best parameters.")] = None,
) -> dict[str, Any]:
    """Return the sweep that these options give."""
    body = payload.read(file) if file else {}
    if job:
        body["job"] = payload.read(job)
    payload.assign(body.setdefault("job", {}), set_ or [])
    for text in param or []:
        path, equals, values = text.partition("=")
        if not equals:
            raise InvalidRequest(f"--param {text!r}: write it as path=values, such as training.batch_size=32,64")
        body.setdefault("space", {})[path] = parameter(values)
    options = {
        "objective.metric": metric,
        "objective.direction": direction,
        "trials": trials,
        "concurrency": concurrency,
        "sampler": sampler,
        "pruner": pruner,
        "seed": seed,
        "name": name,
        "on_best.register_as": register_as,
        "on_best.schedule": schedule,
    }
    payload.put_options(body, options)
    return body


def parameter(text: str) -> dict[str, Any]:
    """Return the parameter of `adam,sgd`, `16..64`, `0..0.5:0.1` (a step) or `1e-4..0.1:log`."""
    bounds, _, way = text.partition(":")
    low, dots, high = bounds.partition("..")
    if not dots:
        return {"choices": [_value(one) for one in text.split(",")]}
    found: dict[str, Any] = {"low": _value(low), "high": _value(high)}
    if way:
        found |= {"log": True} if way == "log" else {"step": _value(way)}
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@app.command("submit")
@with_options(_body)
def submit(
    ctx: typer.Context,
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Wait until the sweep has ended, and show it.")] = False,
    as_json: AsJson = False,
    **given: Any,
) -> None:
    """Submit a sweep and print its id, e.g. `sweep submit -f sweep.json --trials 40`."""
    sweep = client(ctx).submit_sweep(_body(**given))
    if follow:
        if not as_json:
            output.print_note(f"sweep {sweep.id}")
        return _print(sweep.wait(), as_json)
    if as_json:
        return output.print_json(sweep.data)
    print(sweep.id)
    return None


@app.command("show")
def show(ctx: typer.Context, sweep: SweepId, as_json: AsJson = False) -> None:
    """Show a sweep: its best trial, the importance of the parameters, and all trials."""
    _print(client(ctx).sweep(sweep), as_json)


def _print(sweep: Sweep, as_json: bool) -> None:
    if as_json:
        return output.print_json(sweep.data)
    output.print_facts(_facts(sweep))
    metric = sweep.data["objective"]["metric"]
    paths = {path: Field(_parameter_of(path), 3) for path in sweep.data["space"]}
    fields = {
        "trial": Field("number"),
        "state": Field(lambda item: output.state_text(item["state"])),
        metric: Field(lambda item: output.number(item["value"])),
        "steps": Field("steps", 2),
        "job": Field("job_id", 1),
        **paths,
    }
    print()
    print_items(sweep.trials, fields, "No trial has started yet.", as_json=False)
    return None


def _parameter_of(path: str) -> Callable[[dict[str, Any]], Any]:
    """Return what shows a trial's parameter: floats with six digits, of which a sampler draws sixteen."""

    def shown(trial: dict[str, Any]) -> Any:
        value = trial["params"].get(path)
        return f"{value:.6g}" if isinstance(value, float) else value

    return shown


def _facts(sweep: Sweep) -> list[tuple[str, Any]]:
    data: Mapping[str, Any] = sweep.data
    objective, best = data["objective"], sweep.best
    ended = f"{data['started'] - data['running']} of {data['trials']} ended, {data['running']} running"
    facts = [
        *((name, data[name]) for name in ("id", "name", "state")),
        ("trials", f"{ended}, {data['pruned']} pruned, {data['failed']} failed"),
        ("objective", f"{objective['metric']} ({objective['direction']})"),
        ("sampler", f"{data['sampler']}, pruner {data['pruner']['name']}, seed {data['seed']}"),
    ]
    if best is not None:
        facts.append(("best", f"trial {best['number']}: {output.number(best['value'])}  (job {best['job_id']})"))
        facts += [(f"  {path}", json.dumps(value)) for path, value in best["params"].items()]
    if data["importance"]:
        shares = (f"{path} {share:.0%}" for path, share in data["importance"].items())
        facts.append(("importance", ", ".join(shares)))
    return [*facts, *((f"outcome: {name}", value) for name, value in (sweep.outcome or {}).items())]


@app.command("pause")
def pause(ctx: typer.Context, sweep: SweepId) -> None:
    """Start no further trial and pause the running jobs, until `resume`."""
    print(client(ctx).sweep(sweep).pause().state)


@app.command("resume")
def resume(ctx: typer.Context, sweep: SweepId) -> None:
    """Go on with a paused sweep and its jobs."""
    print(client(ctx).sweep(sweep).resume().state)


@app.command("stop")
def stop(
    ctx: typer.Context,
    sweep: SweepId,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel the running jobs, and do nothing with the best trial.")
    ] = False,
) -> None:
    """Stop a sweep: its running jobs finish with what they have, and the best trial is kept."""
    found = client(ctx).sweep(sweep)
    print((found.cancel() if cancel else found.stop()).state)


@app.command("add")
def add(
    ctx: typer.Context, sweep: SweepId, count: Annotated[int, typer.Argument(help="Number of trials to add.")]
) -> None:
    """Add trials to a sweep. One that has ended runs again."""
    shown = client(ctx).sweep(sweep).add_trials(count)
    print(f"{shown.state}, {shown.data['trials']} trials")


@app.command("delete")
def delete(ctx: typer.Context, sweep: SweepId) -> None:
    """Delete a sweep that has ended, with its trials. Their jobs are kept."""
    client(ctx).sweep(sweep).delete()
    print(f"{sweep} deleted")
