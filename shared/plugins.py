"""The plug-ins of a process: what each process of the service does about them when it starts."""

from __future__ import annotations

from nightshift.entry_points import names_of
from nightshift.plugins import installed_programs
from shared.settings import Settings
from shared.specs.families import FAMILIES


def load_plugins(settings: Settings) -> None:
    """Import the allowed plug-ins, so that this process knows their metrics.

    One that cannot be used stops nothing; `nightshift programs` and `nightshift families` list it.
    """
    installed_programs(names_of(settings.programs))
    list(FAMILIES.installed)
