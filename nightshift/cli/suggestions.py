"""The next step, where a person would otherwise have to guess it. Remarks go to stderr and never fail a command."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nightshift.errors import NightshiftError

if TYPE_CHECKING:
    from nightshift.client.client import Client, Job

#: Jobs among which one that was mistyped is looked for.
RECENT = 200
WAITING = ("queued", "waiting")


def nearest_job(client: Client, wrong: str) -> str:
    """` Did you mean …?`, or where ids are listed."""
    ids = [job.id for job in client.jobs(limit=RECENT)]
    return _nearest(wrong, ids, {job_id[: len(wrong)]: job_id for job_id in ids}) or " `nightshift jobs` lists them."


#: What the API says of a name it does not know, and how to list those it does.
_UNKNOWN = re.compile(r"There is no (model|data set|schedule|webhook)(?: version)? '([^'@]+)")
_LISTS: dict[str, Callable[[Client], list[Any]]] = {
    "model": lambda client: client.models(),
    "data set": lambda client: client.datasets(),
    "schedule": lambda client: client.schedules(),
    "webhook": lambda client: client.webhooks(),
}


def nearest_name(client: Client, told: str) -> str:
    """What to add to an error about a name: the nearest there is, or all. Empty for other errors."""
    unknown = _UNKNOWN.match(told)
    if unknown is None:
        return ""
    noun, wrong = unknown.groups()
    try:
        known = [str(item["name"]) for item in _LISTS[noun](client)]
    except (NightshiftError, KeyError):
        return ""
    return _nearest(wrong, known, {}) or (f" There are: {', '.join(known[:10])}." if known else " There are none yet.")


def _nearest(wrong: str, names: Sequence[str], beginnings: dict[str, str]) -> str:
    """A name, or one whose beginning is nearly what was typed."""
    candidates = {**{name: name for name in names}, **beginnings}
    near = difflib.get_close_matches(wrong, candidates, n=1, cutoff=0.6)
    return f" Did you mean {candidates[near[0]]}?" if near else ""


def registration(new: Job, old: Job) -> None:
    """Says what a job that was run again registers, which the one before does not decide. Of a kind that makes no
    model, nothing."""
    from nightshift.cli.render.output import print_note

    name, before = (job.data["spec"].get("register_as") for job in (new, old))
    if name:
        print_note(f"Its model will be registered as a new version of {name}.")
    elif before:
        print_note(f"Its model will not be registered; --register-as {before} makes it a new version of {before}.")
    elif "register_as" in new.data["spec"]:
        print_note("Its model will not be registered.")


def needs_download(client: Client, job: Job) -> None:
    """Says that a worker must first download the job's data set. Only for a person, as below."""
    name = job.data.get("dataset")
    if not sys.stderr.isatty() or not name:
        return
    from nightshift.cli.render.output import print_note

    try:
        there = client.dataset(name).get("availability")
    except NightshiftError:
        return
    if there == "needs_download":
        print_note(f"{name} needs a download: the worker that takes the job makes it first, unless it has the files.")


def no_worker(client: Client, jobs: Sequence[Job]) -> None:
    """Says that nothing will run while no worker is online. Only for a person: a program reads the workers itself."""
    if not sys.stderr.isatty() or not any(job.state in WAITING for job in jobs):
        return
    from nightshift.cli.render.output import print_note

    try:
        workers: list[Any] = client.workers()
    except NightshiftError:
        return
    if not any(worker.get("state") == "online" for worker in workers):
        print_note("No worker is online: it waits until one is. Start one with `nightshift up` or `nightshift worker`.")
