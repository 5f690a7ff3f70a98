"""Jobs that `tests.support.held_finish` holds in their phase `finishing`."""

from __future__ import annotations

from sqlalchemy import select

from shared.db.engine import read
from shared.db.schema import workers
from tests.support.stack import Stack, eventually


def hashes(stack: Stack, job_id: str) -> dict[str, str]:
    """Return the hashes of a job's artifacts by name, without the event file, which has times and the job's id."""
    return {row.path: row.sha256 for row in stack.artifacts(job_id) if not row.path.startswith("tensorboard/")}


def held(stack: Stack, job_id: str) -> int:
    """Wait until a job is held in its phase `finishing` and return the pid of the runner that finishes it."""
    file = stack.root / "jobs" / job_id / "finishing"
    eventually(f"job {job_id} is finishing: {stack.job(job_id)}", file.exists)
    return int(file.read_text())


def in_phase(stack: Stack, job_id: str) -> bool:
    """Return whether SQL knows that a job is finishing."""
    job = stack.job(job_id)
    return job.state == "running" and (job.progress or {}).get("phase") == "finishing"


def state_of(stack: Stack) -> str | None:
    """Return the state of the first worker."""
    with read(stack.engine) as conn:
        found: str | None = conn.scalar(select(workers.c.state).where(workers.c.name == "cpu0@test"))
    return found
