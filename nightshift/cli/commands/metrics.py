"""`nightshift metrics`: metrics of one or several jobs as a table, CSV, JSON or curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightshift.cli.options import AsJson, JobIds, find_jobs
from nightshift.cli.render import output
from nightshift.metrics import CURVES

if TYPE_CHECKING:
    from nightshift.client.client import Job

#: Points fetched per curve for --plot: more than a terminal can show.
DRAWN_POINTS = 1_000

Found = list[tuple["Job", Any]]


def metrics(
    ctx: typer.Context,
    job_ids: JobIds,
    name: Annotated[str | None, typer.Option(help="Print all points of this metric, e.g. val_loss.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the curves; those of several jobs share a chart.")] = False,
    log: Annotated[bool, typer.Option("--log", help="With --plot: use a logarithmic vertical axis.")] = False,
    max_points: Annotated[
        int | None, typer.Option(min=4, help="Reduce each series to at most this many points.")
    ] = None,
    system: Annotated[
        bool, typer.Option("--system", help="Print CPU, memory and GPU usage instead; steps are seconds.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print every point as CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the metrics of jobs, as a table, CSV, JSON or curves."""
    wanted = DRAWN_POINTS if plot and max_points is None else max_points
    points = _system if system else lambda job: job.metrics(name, max_points=wanted)
    found: Found = [(job, point) for job in find_jobs(ctx, job_ids) for point in points(job)]
    several = len(set(job_ids)) > 1
    if as_json:
        return output.print_items([{**point, "job": job.id} if several else point for job, point in found])
    if as_csv:
        return _print_csv(found, several)
    if not found:
        return output.print_note(f"There is no metric {name} yet." if name else "There are no metrics yet.")
    if plot:
        return _draw(found, [name] if name else CURVES, log)
    return _print_points(found, several) if name else _print_overview(found, several)


def _system(job: Job) -> list[Any]:
    """Return the usage samples as metric points, such as `system/cpu_percent`; steps are seconds since the first."""
    from datetime import datetime

    samples = job.system()
    began = datetime.fromisoformat(samples[0]["at"]) if samples else None
    return [
        {
            "name": f"system/{name}", "step": round((datetime.fromisoformat(sample["at"]) - began).total_seconds()),
            "epoch": sample["attempt"], "value": sample[name], "at": sample["at"],
        }
        for name in ("cpu_percent", "memory_bytes", "gpu_percent", "gpu_memory_bytes")
        for sample in samples
        if sample[name] is not None and began is not None
    ]  # fmt: skip


def _print_csv(found: Found, several: bool) -> None:
    import csv
    import sys

    columns = [*(["job"] if several else []), "name", "step", "epoch", "value", "at"]
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**point, "job": job.id} for job, point in found)


def _print_points(found: Found, several: bool) -> None:
    columns = [output.Column("JOB")] if several else []
    columns += [output.Column(title, right=True) for title in ("STEP", "EPOCH", "VALUE")]
    rows = [
        [*([job.id] if several else []), point["step"], point["epoch"], output.number(point["value"]), point["at"]]
        for job, point in found
    ]
    output.print_table([*columns, output.Column("AT", 1)], rows, "")


def _print_overview(found: Found, several: bool) -> None:
    from nightshift.cli.render import chart

    columns = [output.Column("METRIC"), *([output.Column("JOB")] if several else [])]
    columns += [output.Column(t, r, right=True) for t, r in (("LAST", 0), ("MIN", 1), ("MAX", 1), ("POINTS", 2))]
    rows = []
    for (title, job_id), points in sorted(_series(found).items(), key=lambda item: item[0][0]):
        values = [value for _, value in points]
        facts = map(output.number, (values[-1], min(values), max(values)))
        rows.append([title, *([job_id] if several else []), *facts, len(values), chart.spark(values)])
    output.print_table([*columns, output.Column("COURSE", 3)], rows, "")


def _draw(found: Found, names: Sequence[str], log: bool) -> None:
    from nightshift.cli.render import chart

    out, series = output.console(), _series(found)
    titles = {job.id: f"{job.id[:8]} {job.data.get('name') or ''}".strip() for job, _ in found}
    width = out.width if out.width < output.PIPE_WIDTH else 80
    drawn = {
        title: [chart.Curve(titles[job_id], points) for (name, job_id), points in series.items() if name == title]
        for title in (names if any(name in names for name, _ in series) else sorted({name for name, _ in series}))
    }
    for title, curves in drawn.items():
        if curves:
            output.show(chart.chart(title, curves, width, log=log, color=out.color_system is not None))


def _series(found: Found) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return the points (step, value) by metric and job."""
    series: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for job, point in found:
        series.setdefault((point["name"], job.id), []).append((point["step"], point["value"]))
    return series
