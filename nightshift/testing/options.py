"""The pytest plugin of the kit: its options. Loaded by every pytest where Nightshift is installed, so it is light."""

from __future__ import annotations

import pytest

#: How the kit is named among pytest's arguments: as a package, or as a folder.
_KIT = ("nightshift.testing", "nightshift/testing")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(args: list[str], parser: pytest.Parser) -> None:
    """Register what `pytest --pyargs nightshift.testing` is told; other projects keep these names for their options."""
    if not any(kit in argument for argument in args for kit in _KIT):
        return
    from nightshift.testing import devices

    group = parser.getgroup("nightshift", "the conformance kit of Nightshift")
    group.addoption("--family", metavar="NAME", help="check this family")
    group.addoption("--program", metavar="NAME", help="check this program")
    group.addoption("--device", metavar="NAME", default="cpu", help=devices.HELP)
    group.addoption("--framework", metavar="NAME", help="only in this framework (default: all that are installed)")
    group.addoption("--conformance-report", metavar="FILE", help="write the outcome of each check as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of the plugin for timeouts, which need not be installed."""
    if not config.pluginmanager.hasplugin("timeout"):
        config.addinivalue_line("markers", "timeout: seconds that a test may take, with pytest-timeout")
