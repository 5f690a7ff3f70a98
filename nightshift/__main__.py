"""`python -m nightshift` is `nightshift`."""

from nightshift.cli.app import main

main()
