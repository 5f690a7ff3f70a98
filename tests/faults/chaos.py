"""`make chaos`: the nemesis in rounds, SQLite and PostgreSQL in turn, until there were enough kills and transactions.

    python -m tests.faults.chaos [--scale 0.1] [--minutes 43] [--seed S] [--folder chaos-data] [--report FILE]

At scale 1: at least 1,000 kill -9 and 10,000 effect transactions in under 45 minutes of two cores. Each round is a
process of its own whose figures go into the folder; started again with the same folder, only what is missing is run.
Writes docs/benchmarks/chaos.md. Exit code: the number of violations (at most 100).
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import quantiles

from benchmarks.__main__ import machine
from tests.faults.tally import Round
from tests.support.paths import ROOT

REPORT = ROOT / "docs" / "benchmarks" / "chaos.md"
KILLS, TRANSACTIONS = 1_000, 10_000
FAULTS_PER_ROUND = 120
DATABASES = ("sqlite", "postgres")


def rounds(folder: Path, first_seed: int, scale: float, minutes: float) -> Iterator[Round]:
    """Those that are there already, then new ones until the goal or the end of the time."""
    give_up = time.monotonic() + 60 * minutes
    kills = transactions = 0
    longest = 0.0
    for number, database in enumerate(itertools.cycle(DATABASES)):
        if kills >= KILLS * scale and transactions >= TRANSACTIONS * scale and number % 2 == 0:
            return
        kept = folder / f"{number:03}-{database}.json"
        begun = time.monotonic()
        if not kept.exists():
            if begun + longest > give_up:
                return
            _run(first_seed + number, database, min(1.0, scale * KILLS / FAULTS_PER_ROUND), kept)
            longest = max(longest, time.monotonic() - begun)
        round_ = Round.load(kept)
        kills, transactions = kills + round_.kills, transactions + round_.transactions
        print(f"  so far {kills} kills, {transactions} transactions", flush=True)
        yield round_


def _run(seed: int, database: str, part: float, kept: Path) -> None:
    """One that ends without figures is itself a violation."""
    faults = str(max(10, round(FAULTS_PER_ROUND * part)))
    command = [sys.executable, "-m", "tests.faults.nemesis", "--seed", str(seed), "--faults", faults]
    command += ["--database", database, "--minutes", "10", "--json", str(kept)]
    ended = subprocess.run(command, cwd=ROOT, check=False)
    if not kept.exists():
        told = [f"the round of seed {seed} ended with {ended.returncode} and without figures"]
        Round(seed, database, violations=told).save(kept)


# -- the report ---------------------------------------------------------------------------------------


def report(found: Sequence[Round], command: str) -> str:
    violations = [f"seed {one.seed} ({one.database}): {told}" for one in found for told in one.violations]
    return "\n".join(
        [
            "# Chaos: random faults against a running stack",
            "",
            "API, two workers, two maintenance processes, Redis and the database run probe jobs of about a second (a "
            "metric"
            " row per step, a checkpoint every 4 to 12 steps) while they are killed, frozen, drained and made to "
            "forget;"
            " see `tests/faults/nemesis.py`. Leases last 3 s here instead of 30, so that waiting for one does not fill "
            "the"
            " time. At the end of each round the oracle (`tests/faults/oracle.py`) reads every row and file.",
            "",
            "```",
            machine(),
            command,
            "```",
            "",
            *_totals(found, violations),
            "",
            "## Recovery",
            "",
            "Of a runner or worker that died at work: from the fault until the job's next attempt had loaded its "
            "checkpoint"
            " and trained on (a second death in a row waits for its back-off of 2 s, a third of 4 s). Of anything "
            "else: from"
            " the end of the fault until the next attempt started. A killed worker's job waits for its lease (3 s "
            "here, 30 s"
            " by default), a frozen one's too, and then for its turn among eight others. Jobs that a user stopped are "
            "left"
            " out.",
            "",
            *recovery(found),
            "",
            "## Rounds",
            "",
            "| seed | database | minutes | faults | kill -9 | jobs | lost steps | violations |",
            "|---|---|---|---|---|---|---|---|",
            *(_row(one) for one in found),
            "",
            *(["## Violations", "", *(f"- {told}" for told in violations), ""] if violations else []),
        ]
    )


def _totals(found: Sequence[Round], violations: Sequence[str]) -> Iterator[str]:
    def total(values: Iterable[float]) -> str:
        return f"{sum(values):,.0f}"

    steps, lost = sum(one.steps for one in found), sum(one.lost_steps for one in found)
    states, outcomes = Counter[str](), Counter[str]()
    for one in found:
        states += Counter(one.states)
        outcomes += Counter(one.outcomes)
    yield from ("| what | how many |", "|---|---|")
    yield f"| faults injected | {total(sum(one.faults.values()) for one in found)} |"
    yield f"| of them kill -9 | {total(one.kills for one in found)} |"
    yield f"| jobs accepted (202) | {total(one.accepted for one in found)} |"
    yield f"| submissions that had to be sent again | {total(one.refused for one in found)} |"
    yield f"| effect transactions (those still to be seen) | {total(one.transactions for one in found)} |"
    yield f"| how jobs ended | {_listed(states)} |"
    yield f"| how attempts ended | {_listed(outcomes)} |"
    yield f"| steps of training | {steps:,} |"
    yield f"| steps lost, and so done twice | {lost:,} ({100 * lost / max(steps, 1):.1f} %) |"
    yield f"| most steps lost at once | {max((one.most_lost for one in found), default=0)} |"
    yield f"| slowest accepted submission | {max((one.slowest_submission for one in found), default=0):.2f} s |"
    yield f"| minutes | {sum(one.minutes for one in found):.1f} |"
    yield f"| **violations** | **{len(violations)}** |"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


def recovery(found: Sequence[Round]) -> Iterator[str]:
    yield from ("| fault | times | measured | p50 s | p95 s | max s |", "|---|---|---|---|---|---|")
    took: dict[str, list[float]] = defaultdict(list)
    times = Counter[str]()
    for one in found:
        times += Counter(one.faults)
        for kind, seconds in one.recovery.items():
            took[kind] += seconds
    for kind, count in times.most_common():
        figures = [f"{value:.2f}" for value in _spread(took[kind])] if took[kind] else ["–"] * 3
        yield f"| {kind.replace('_', ' ')} | {count} | {len(took[kind])} | {' | '.join(figures)} |"


def _spread(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    cut = quantiles(values, n=20, method="inclusive")
    return cut[9], cut[18], max(values)


def _row(one: Round) -> str:
    cells = (one.seed, one.database, one.minutes, sum(one.faults.values()), one.kills, one.accepted)
    return f"| {' | '.join(map(str, cells))} | {one.lost_steps} of {one.steps} | {len(one.violations)} |"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="part of the 1,000 kills and 10,000 transactions")
    parser.add_argument("--minutes", type=float, default=43.0, help="begin no round that would end later")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "chaos-data", help="figures of rounds; kept on violations"
    )
    parser.add_argument("--report", type=Path, default=REPORT)
    given = parser.parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)
    found = list(rounds(given.folder, given.seed, given.scale, given.minutes))
    command = f"python -m tests.faults.chaos --scale {given.scale} --seed {given.seed}"
    given.report.write_text(report(found, command))
    violations = sum(len(one.violations) for one in found)
    kills, transactions = sum(one.kills for one in found), sum(one.transactions for one in found)
    print(f"{kills} kill -9, {transactions} effect transactions, {violations} violations: {given.report}")
    if not violations:
        shutil.rmtree(given.folder)
    return min(violations, 100)


if __name__ == "__main__":
    sys.exit(main())
