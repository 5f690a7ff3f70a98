"""The plug-ins of a process: what each process of the service does about them when it starts."""

from __future__ import annotations

from nightshift.plugins import installed_programs, names_of
from shared.settings import Settings


def load_plugins(settings: Settings) -> None:
    """Import the allowed plug-ins, so that this process knows their metrics.

    One that cannot be used stops nothing; `nightshift programs` lists it.
    """
    installed_programs(names_of(settings.programs))
