"""The plug-ins of this worker: what it advertises and claims jobs for."""

from __future__ import annotations

from collections.abc import Iterable

from nightshift.plugins import InstalledProgram, installed_programs, names_of
from shared.fleet.plugins import InstalledPlugin, program_plugin
from shared.settings import Settings


def usable(settings: Settings, frameworks: Iterable[str]) -> tuple[InstalledPlugin, ...]:
    """Return the allowed programs that can be used here, and declare their metrics.

    Those that need a missing framework cannot be used.
    """
    found = installed_programs(names_of(settings.programs)).values()
    served = {None, *frameworks}
    return tuple(_plugin(one) for one in found if one.program is not None and one.program.framework in served)


def _plugin(found: InstalledProgram) -> InstalledPlugin:
    assert found.program is not None
    return InstalledPlugin(
        plugin=program_plugin(found.name),
        package=found.package,
        record=found.record_sha256,
        state_version=found.program.state_version,
        loads=tuple(found.program.loads),
        promise=found.program.promise,
    )
