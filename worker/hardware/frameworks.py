"""Which frameworks this machine has, what their forkservers import beforehand, and the environment those run in.

One forkserver per framework: a runner uses one only, and a crash in importing the other cannot hurt it. Nothing here
imports a framework; `find_spec` looks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

from nightshift.names import FAMILY_NAMES, FRAMEWORKS
from nightshift.versions import installed_of
from worker.kinds import MODULES

#: Imported by every forkserver: the runner, the kinds' pipelines, and what evaluation and figures need at a job's end.
_COMMON = (
    "worker.runners.runner",
    "worker.runners.warmup",
    "worker.run_job",
    *MODULES.values(),
    "safetensors.numpy",
    "sklearn.metrics",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pyarrow.parquet",
    "PIL.Image",
)
_OWN = {
    # The first optimizer imports torch._dynamo: 1.7 s in every job if it is not done here.
    "torch": ("torch", "torch._dynamo", "torch.profiler._cupti_monitor", "torch.nn.functional", "safetensors.torch"),
    "tensorflow": ("tensorflow", "keras"),
}
_FAMILY_PARTS = ("data", "evaluation", "plots", "batch_inference")


def served(wanted: str = "") -> list[str]:
    """Those of `wanted` (comma separated; empty: all) that are installed, torch first."""
    names = {name.strip() for name in wanted.split(",") if name.strip()} or set(FRAMEWORKS)
    return [name for name in FRAMEWORKS if name in names and find_spec(name) is not None]


def versions() -> dict[str, str]:
    """Of everything that decides what a run computes, for the fleet page."""
    return installed_of((*FRAMEWORKS, "keras", "numpy"))


def framework_of(spec: Mapping[str, Any]) -> str:
    """The framework a job's runner needs, wherever its kind keeps it."""
    for place in (spec.get("model"), spec.get("inference"), spec):
        if isinstance(place, Mapping) and place.get("framework") in FRAMEWORKS:
            return str(place["framework"])
    return "torch"


def preloads(framework: str, everything: bool = True) -> list[str]:
    """Modules to import before the first fork; those that do not exist here are left out."""
    if not everything:
        return ["worker.runners.runner"]
    own = [
        f"worker.families.{family}.{part}"
        for family in FAMILY_NAMES
        for part in (*_FAMILY_PARTS, framework + "_learner")
    ]
    return [module for module in (*_OWN[framework], *_COMMON, *own) if _exists(module)]


def _exists(module: str) -> bool:
    """Return whether a module is installed, importing none of its packages (`find_spec` alone would import them)."""
    package, *rest = module.split(".")
    spec = find_spec(package)
    for name in rest:
        if spec is None or spec.submodule_search_locations is None:
            return False
        spec = PathFinder.find_spec(f"{spec.name}.{name}", spec.submodule_search_locations)
    return spec is not None


def onednn_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What keeps TensorFlow alive where oneDNN was told to use less of the processor than there is: it asks the
    processor whether that has bfloat16, and the whole process dies when oneDNN then says no."""
    told = "ONEDNN_MAX_CPU_ISA" in environ and "TF_ENABLE_ONEDNN_OPTS" not in environ
    return {"TF_ENABLE_ONEDNN_OPTS": "0"} if told else {}


def forkserver_environment(threads: int | None) -> dict[str, str]:
    """What must be set before a library is loaded."""
    count = str(threads or os.cpu_count() or 1)
    return {
        **onednn_environment(os.environ),
        # Threads of a step; part of a run's identity (1 and 2 threads give different bits).
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "TF_NUM_INTRAOP_THREADS": count,
        # OpenBLAS (numpy, scipy) starts its threads on import, and a process with threads must not fork.
        "OPENBLAS_NUM_THREADS": "1",
        # So does pyarrow's allocator.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        # Sets iterate in the same order in every attempt, so a resumed run cannot differ by it.
        "PYTHONHASHSEED": "0",
        # glibc returns big blocks to the kernel at once and faults them in again each step; keep them (1.2-1.5x).
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the largest value glibc takes
        "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
        "MALLOC_TOP_PAD_": str(64 << 20),
        # Figures are drawn to files; no display, no font-cache lock between jobs.
        "MPLBACKEND": "Agg",
        # TensorFlow: no greeting per job, and never the whole GPU.
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
