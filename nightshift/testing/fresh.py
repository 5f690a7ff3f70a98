"""Imports tried where they do no harm: in a new interpreter, or in a process forked from one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from nightshift.families.family import GROUP
from nightshift.testing import attempts
from nightshift.testing.processes import Server
from worker.runners.plugin_preload import tried

#: Frameworks that a declaration must not import: the API imports it, and has none of them.
FRAMEWORKS = ("torch", "tensorflow", "keras", "jax")
_DECLARATION = """
import json, sys
from importlib.metadata import entry_points
(point,) = [point for point in entry_points(group=sys.argv[1]) if point.name == sys.argv[2]]
point.load()
print(json.dumps([name for name in sys.argv[3:] if name in sys.modules]))
"""
_LAYERS = """
import json, sys
from importlib.metadata import entry_points
(point,) = [point for point in entry_points(group=sys.argv[1]) if point.name == sys.argv[2]]
family = point.load()
for preset in family.presets:
    model = family.model.model_validate_json(json.dumps({"preset": preset}))
    model.layers(model.expected_facts(None))
print(json.dumps([name for name in sys.argv[3:] if name in sys.modules]))
"""


def frameworks_of_declaration(group: str, name: str) -> list[str]:
    """Return the frameworks that importing a declaration imports, in a new interpreter. Raises RuntimeError."""
    return _frameworks_after(_DECLARATION, group, name)


def frameworks_of_layers(name: str) -> list[str]:
    """Return the frameworks that the layers of a family's presets need. Raises RuntimeError."""
    return _frameworks_after(_LAYERS, GROUP, name)


def _frameworks_after(code: str, group: str, name: str) -> list[str]:
    command = [sys.executable, "-c", code, group, name, *FRAMEWORKS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def harm_of(server: Server, modules: Sequence[str], folder: Path) -> dict[str, str]:
    """Return why modules must not be imported before a fork, by module; each is tried in a fork of the server."""
    folder.mkdir(parents=True, exist_ok=True)
    code = attempts.run(server, _try, (tuple(modules), folder / "harm.json"))
    if code != 0:
        return {"all": f"importing them ends the process (exit code {code})"}
    found: dict[str, str] = json.loads((folder / "harm.json").read_text())
    return found


def _try(order: tuple[tuple[str, ...], Path]) -> None:
    modules, path = order
    found = {module: why for module in modules if (why := tried(partial(_import_anew, module))) is not None}
    path.write_text(json.dumps(found))


def _import_anew(module: str) -> Any:
    """Import a module, also if the server has it already."""
    sys.modules.pop(module, None)
    return import_module(module)
