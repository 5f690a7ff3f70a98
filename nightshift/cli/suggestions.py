"""Suggestions of the next step. They are printed to stderr and never fail a command."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nightshift.cli.render import output
from nightshift.errors import NightshiftError

if TYPE_CHECKING:
    from nightshift.client.client import Client, Job

#: Number of newest jobs searched for a similar id.
RECENT = 200
WAITING = ("queued", "waiting")


def nearest_job(client: Client, wrong: str) -> str:
    """Return ` Did you mean …?`, or how to list the ids."""
    ids = [job.id for job in client.jobs(limit=RECENT)]
    return _nearest(wrong, ids, {job_id[: len(wrong)]: job_id for job_id in ids}) or " `nightshift jobs` lists them."


#: The API's message for an unknown name, and how to list the known ones.
_UNKNOWN = re.compile(r"There is no (model|data set|schedule|webhook)(?: version)? '([^'@]+)")
_LISTS: dict[str, Callable[[Client], list[Any]]] = {
    "model": lambda client: client.models(),
    "data set": lambda client: client.datasets(),
    "schedule": lambda client: client.schedules(),
    "webhook": lambda client: client.webhooks(),
}


def nearest_name(client: Client, message: str) -> str:
    """Return what to add to an error about an unknown name: a similar one, or all. Empty for other errors."""
    unknown = _UNKNOWN.match(message)
    if unknown is None:
        return ""
    noun, wrong = unknown.groups()
    try:
        known = [str(item["name"]) for item in _LISTS[noun](client)]
    except (NightshiftError, KeyError):
        return ""
    return _nearest(wrong, known, {}) or (f" There are: {', '.join(known[:10])}." if known else " There are none yet.")


def _nearest(wrong: str, names: Sequence[str], beginnings: dict[str, str]) -> str:
    """Return a suggestion of the most similar name or prefix, or an empty text."""
    candidates = {**{name: name for name in names}, **beginnings}
    near = difflib.get_close_matches(wrong, candidates, n=1, cutoff=0.6)
    return f" Did you mean {candidates[near[0]]}?" if near else ""


def registration(new: Job, old: Job) -> None:
    """Print whether the model of a rerun job will be registered, which is not copied from the old job.

    Jobs of a kind that makes no model print nothing.
    """
    name, before = (job.data["spec"].get("register_as") for job in (new, old))
    if name:
        output.print_note(f"The model will be registered as a new version of {name}.")
    elif before:
        output.print_note(
            f"The model will not be registered; --register-as {before} makes it a new version of {before}."
        )
    elif "register_as" in new.data["spec"]:
        output.print_note("The model will not be registered.")


def needs_download(client: Client, job: Job) -> None:
    """Print that a worker must first download the job's data set; only on a terminal."""
    name = job.data.get("dataset")
    if not sys.stderr.isatty() or not name:
        return
    try:
        availability = client.dataset(name).get("availability")
    except NightshiftError:
        return
    if availability == "needs_download":
        output.print_note(f"The worker that runs the job will first download {name}, unless it has the files.")


def no_worker(client: Client, jobs: Sequence[Job]) -> None:
    """Print that no worker is online, if the jobs wait for one; only on a terminal."""
    if not sys.stderr.isatty() or not any(job.state in WAITING for job in jobs):
        return
    try:
        workers: list[Any] = client.workers()
    except NightshiftError:
        return
    if not any(worker.get("state") == "online" for worker in workers):
        output.print_note(
            "No worker is online, so the job waits. Start one with `nightshift up` or `nightshift worker`."
        )
