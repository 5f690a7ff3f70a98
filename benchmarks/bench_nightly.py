"""Thirty nights of retraining on the digits through API, scheduler, worker and runner, with a simulated clock.

    python -m benchmarks.bench_nightly [--nights 30] [--poisoned 8 20] [--warm-from 16] [--framework torch]

Each night 40 new digits are appended, the schedule (`0 2 * * *`, Europe/Berlin) trains from the newest version, and the
result is promoted if it is better by 0.002 on 360 digits that were held out in version 1. On a poisoned night 1,500
digits with wrong labels are appended; that version is deleted the next day. From `--warm-from` on, the champion is
fine-tuned instead of training from scratch. At the end the champion is rolled back. Exit code 1 unless the champion's
score (measured by evaluate jobs) never fell, no poisoned night was promoted, and the rollback restored weights with the
same SHA-256.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.support import databases
from tests.support.nightly import NAME, Night, Nightly, nightly
from tests.support.redis import running_redis
from tests.support.stack import open_stack


def line(night: Night) -> str:
    """Return a row of the table."""
    what = "poisoned" if night.poisoned else "fine-tune" if night.warm else "scratch"
    champion = "" if night.champion is None else f"{night.champion:.4f}"
    done = f"yes, @{night.version}" if night.promoted else "no"
    return (
        f"| {night.number} | {what} | {night.rows:,} | {night.candidate:.4f} | {champion} | {done} | "
        f"{night.standing:.4f} | "
        f"{night.sha256[:12]} |"
    )


HEAD = """| night | trained | rows | candidate | champion then | promoted | champion's score after | its weights |
|---:|---|---:|---:|---:|---|---:|---|"""


def run(story: Nightly, options: argparse.Namespace) -> list[str]:
    """Run the nights; return the violated guarantees."""
    print(HEAD, flush=True)
    for number in range(1, options.nights + 1):
        if number == options.warm_from:
            story.warm()
        print(line(story.night(poisoned=number in options.poisoned)), flush=True)
    nights = story.nights
    standings = [night.standing for night in nights]
    wrong = [] if standings == sorted(standings) else ["the champion's score fell"]
    for night in nights:
        if night.poisoned:
            print(f"\nnight {night.number}, poisoned: {night.reason}")
            wrong += ["a poisoned night was promoted"] if night.promoted else []
    return wrong + rollback(story)


def rollback(story: Nightly) -> list[str]:
    *_, before, now = [night for night in story.nights if night.promoted]
    story.client.rollback(NAME, reason="the end of the study")
    version, sha256 = story.champion()
    print(f"\nrollback: @{now.version} {now.sha256}\n      to: @{version} {sha256}")
    return [] if (version, sha256) == (before.version, before.sha256) else ["the rollback brought back other weights"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--poisoned", type=int, nargs="*", default=[8, 20])
    parser.add_argument("--warm-from", type=int, default=16)
    parser.add_argument("--framework", default="torch")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as redis:
        root = Path(folder)
        url = databases.sqlite_database(root, databases.make_sqlite_template(_made(root / "template")))
        settings = {"kinds": "", "frameworks": options.framework, "torch_threads": 1, "preload": "true"}
        with (
            open_stack(root, url, redis.url, maintenance_seconds=0.2, **settings) as stack,
            nightly(stack, framework=options.framework) as story,
        ):
            wrong = run(story, options)
            moves = len(story.client.model_history(NAME))
    print(f"\n{options.nights} nights in {time.perf_counter() - began:.0f} s; {moves} lines in the model's history")
    print("\n".join(f"WRONG: {text}" for text in wrong) or "as promised: no fall, no poison promoted, rollback exact")
    return 1 if wrong else 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
