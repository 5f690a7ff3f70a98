"""Processor time of `nightshift --help`, against an empty Python and the least that a typer application takes.

    python -m benchmarks.bench_command_line [--rounds 15]

User and system time of each process, interleaved, median over the rounds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

#: An application with one command, and its help.
LEAST = """
import typer
app = typer.Typer(rich_markup_mode=None)
@app.callback()
def root(): "Help."
@app.command()
def command(): "Help."
app(["--help"])
"""
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "a typer application": ["-c", LEAST],
    "nightshift --help": ["-m", "nightshift", "--help"],
    "nightshift jobs --help": ["-m", "nightshift", "jobs", "--help"],
}


def processor_seconds(arguments: list[str]) -> float:
    """Return the user and system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the median of each command and its ratio to an empty Python."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    taken = [{name: processor_seconds(arguments) for name, arguments in COMMANDS.items()} for _ in range(rounds)]
    empty = statistics.median(one["python -c pass"] for one in taken)
    for name in COMMANDS:
        median = statistics.median(one[name] for one in taken)
        print(f"{name:24} {median * 1000:6.0f} ms  {median / empty:5.1f} times an empty Python")


if __name__ == "__main__":
    main()
