"""The plug-ins of this worker: what it advertises, claims jobs for and imports before it forks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nightshift.entry_points import Installed, names_of
from nightshift.families.family import Family
from nightshift.plugins import installed_programs
from nightshift.programs import Program, Promise
from shared.fleet.plugins import InstalledPlugin, family_plugin, program_plugin
from shared.settings import Settings
from shared.specs.families import FAMILIES


def usable(settings: Settings, frameworks: Iterable[str]) -> tuple[InstalledPlugin, ...]:
    """Return the families and programs that can be used here. Those that need a missing framework cannot."""
    served = {*frameworks}
    return (
        *(_plugin(family_plugin(one.name), one, None) for one, _ in _families(served)),
        *(
            _plugin(program_plugin(one.name), one, program.promise)
            for one, program in _programs(settings, {None, *served})
        ),
    )


def modules(settings: Settings, framework: str) -> list[str]:
    """Return the modules of installed packages that runners of a framework import; built-in families have others."""
    learners = [family.modules(framework) for one, family in _families({framework}) if not one.is_builtin]
    functions = [[program.train.partition(":")[0]] for _, program in _programs(settings, {None, framework})]
    return list(dict.fromkeys(module for names in [*learners, *functions] for module in names))


def _families(served: set[str]) -> Iterator[tuple[Installed[Family], Family]]:
    for one in FAMILIES.installed.values():
        if one.declared is not None and served & set(one.declared.frameworks):
            yield one, one.declared


def _programs(settings: Settings, served: set[str | None]) -> Iterator[tuple[Installed[Program], Program]]:
    for one in installed_programs(names_of(settings.programs)).values():
        if one.declared is not None and one.declared.framework in served:
            yield one, one.declared


def _plugin(plugin: str, found: Installed[Any], promise: Promise | None) -> InstalledPlugin:
    assert found.declared is not None
    return InstalledPlugin(
        plugin=plugin,
        package=found.package,
        record=found.record_sha256,
        state_version=found.declared.state_version,
        loads=tuple(found.declared.loads),
        promise=promise,
    )
