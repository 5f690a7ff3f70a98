"""Entry point: `python -m nightshift` runs the `nightshift` command."""

from nightshift.cli.app import main

main()
