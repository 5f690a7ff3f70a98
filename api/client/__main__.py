"""`python -m api.client` is `nightshift`."""

from api.client.cli import main

main()
