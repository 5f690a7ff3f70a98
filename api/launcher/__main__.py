"""`python -m api.launcher`: the launcher without the rest of the command line; see `nightshift up --help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from api.launcher.command import up
from api.launcher.stack import Options


def main() -> int:
    """Run the stack until it is stopped; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m api.launcher")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--flower-port", type=int, default=0)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--device", choices=["auto", "cpu", "gpu"], default="auto")
    return up(Options(**vars(parser.parse_args())))


if __name__ == "__main__":
    sys.exit(main())
