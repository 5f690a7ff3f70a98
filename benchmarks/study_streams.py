"""Memory of an API process while a thousand event streams open and close, three times.

`python -m benchmarks.study_streams`
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from shared.db.engine import make_engine, write
from shared.fleet import keys
from tests.support import databases
from tests.support.factories import OWNER, submit_job
from tests.support.serving import api_process

STREAMS, AT_ONCE, ROUNDS = 1_000, 50, 3


async def opened(url: str, key: str, job_id: str) -> asyncio.StreamWriter:
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head = f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"event: state")
    return writer


async def study(url: str, key: str, job_id: str, process: psutil.Process) -> None:
    quiet = process.num_fds() + 2 * AT_ONCE
    say("at rest", process)
    for _ in range(ROUNDS):
        streams: list[asyncio.StreamWriter] = []
        while len(streams) < STREAMS:
            streams += await asyncio.gather(*(opened(url, key, job_id) for _ in range(AT_ONCE)))
        say("open", process)
        for stream in streams:
            stream.close()
        while process.num_fds() > quiet:
            await asyncio.sleep(1)
        await asyncio.sleep(10)  # until idle threads have ended
        say("closed", process)


def say(when: str, process: psutil.Process) -> None:
    print(f"{when:8} {process.memory_info().rss / 1e6:4.0f} MB, {process.num_threads()} threads", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = databases.sqlite_database(Path(folder), databases.make_sqlite_template(Path(folder)))
        engine = make_engine(url)
        with write(engine) as conn:
            _, key = keys.create(conn, "study", OWNER)
        job_id = submit_job(engine).job_id
        with api_process(url, Path(folder)) as (api, address):
            asyncio.run(study(address, key, job_id, psutil.Process(api.pid)))
        engine.dispose()


if __name__ == "__main__":
    main()
