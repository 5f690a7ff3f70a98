"""Installed packages in a forkserver: what must not be imported there is left out and stops nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.own_family import write_family
from tests.support.paths import ROOT
from worker.runners.plugin_preload import preload_modules

MODULES = {
    "good_one": "VALUE = 3",
    "fails": "raise RuntimeError('no licence')",
    "ends": "raise SystemExit(3)",
    "exits": "import os; os._exit(7)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "threaded": "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "forks": "import subprocess; CHILD = subprocess.Popen(['sleep', '1000'])",
    "opens_gpu": """
        import sys, types
        sys.modules["torch"] = types.SimpleNamespace(cuda=types.SimpleNamespace(is_initialized=lambda: True))
    """,
    "asks_cuda": """
        import os, sys, types
        pid = os.getpid()
        cuda = types.SimpleNamespace(is_initialized=lambda: False, _is_in_bad_fork=lambda: os.getpid() != pid)
        sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
    """,
}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
    return tmp_path


def in_a_process(packages: Path, code: str, **environment: str) -> str:
    """Run code in a process with one thread, as a forkserver is."""
    path = os.pathsep.join([str(packages), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_what_may_not_be_imported_is_named_with_the_reason(packages: Path) -> None:
    said = in_a_process(
        packages,
        f"""
        import sys
        from worker.runners.plugin_preload import harm, preload_modules
        for module, why in preload_modules({list(MODULES)!r} + ["not_there"]).items():
            print(f"{{module}}: {{why}}")
        print(sorted(sys.modules.keys() & {set(MODULES)!r}), harm())
        """,
        CUDA_VISIBLE_DEVICES="GPU-0",
    )
    assert said.splitlines() == [
        "fails: RuntimeError: no licence",
        "ends: SystemExit: 3",
        "exits: its import ends the process (exit code 7)",
        f"killed: its import ends the process (signal {signal.SIGKILL:d})",
        "threaded: its import starts 1 thread",
        "forks: its import starts a process",
        "opens_gpu: its import opens a GPU",
        "asks_cuda: its import asks CUDA for GPUs, after which no fork can use one",
        "not_there: ModuleNotFoundError: No module named 'not_there'",
        "['good_one'] None",
    ]


def test_an_import_without_an_end_is_given_up(packages: Path) -> None:
    (packages / "endless.py").write_text("import threading; threading.Event().wait()")
    said = in_a_process(
        packages,
        """
        from worker.runners import plugin_preload
        plugin_preload.PROBE_SECONDS = 1
        print(plugin_preload.preload_modules(["endless"]))
        """,
    )
    assert said == "{'endless': 'its import takes longer than 1 s'}"


def test_a_family_whose_declaration_is_harmful_is_left_out(tmp_path: Path) -> None:
    write_family(tmp_path)
    bad = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    write_family(tmp_path / "bad", name="nightshift-bad", entry="bad = bad_family:FAMILY")
    (tmp_path / "bad" / "bad_family.py").write_text(bad)
    said = in_a_process(
        tmp_path,
        """
        from worker.runners.plugin_preload import harm, preload_families
        from shared.specs.families import FAMILIES
        print(preload_families(), list(FAMILIES), harm())
        """,
        NIGHTSHIFT_FAMILIES="built-in,linear,bad",
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(tmp_path / "bad"), str(ROOT)]),
    )
    everything = ["cnn", "gan", "gru_lm", "mlp", "tagger", "text_classifier", "linear"]
    assert said == f"{{'bad': 'its import starts 1 thread'}} {everything} None"


def test_nothing_to_import_is_nothing_to_do() -> None:
    assert preload_modules([]) == {}
