"""The installed frameworks, and the preloaded modules and environment of their forkservers.

There is one forkserver per framework: a runner uses only one, and a failing import of the other cannot affect it.
Nothing here imports a framework.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

from nightshift.names import FRAMEWORKS
from nightshift.versions import installed_of
from shared.specs.families import FAMILIES
from worker.kinds import MODULES

#: Imported by every forkserver: the runner, the kinds, and the libraries of evaluation and plots.
_COMMON = (
    "worker.runners.runner",
    "worker.runners.warmup",
    "worker.run_job",
    *MODULES.values(),
    "safetensors.numpy",
    "sklearn.metrics",
    "worker.training.caches",
    "onnx",
    "pyarrow.parquet",
    "PIL.Image",
)
_OWN = {
    # The first optimizer imports torch._dynamo, which takes 1.7 s in every job if it is not preloaded.
    "torch": (
        "torch",
        "torch._dynamo",
        "torch.profiler._cupti_monitor",
        "torch.nn.functional",
        "safetensors.torch",
        "worker.runners.torch_agent",
    ),
    "tensorflow": ("tensorflow", "keras", "worker.runners.tensorflow_agent"),
}


def served(wanted: str = "") -> list[str]:
    """Return the frameworks of `wanted` (comma separated; empty: all, torch first) that are installed, in its order."""
    names = dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()) or FRAMEWORKS
    return [name for name in names if name in FRAMEWORKS and find_spec(name) is not None]


def versions() -> dict[str, str]:
    """Return the versions of the libraries that decide what a run computes, for the fleet page."""
    return installed_of((*FRAMEWORKS, "keras", "numpy"))


def framework_of(spec: Mapping[str, Any], default: str = FRAMEWORKS[0]) -> str:
    """Return the framework that a job's runner needs; `default` if it needs none, as some programs."""
    for part in (spec.get("model"), spec.get("inference"), spec):
        if isinstance(part, Mapping) and part.get("framework") in FRAMEWORKS:
            return str(part["framework"])
    return default


def preloads(framework: str, everything: bool = True) -> list[str]:
    """Return the modules to import before the first fork, without those that are not installed."""
    if not everything:
        return ["worker.runners.runner"]
    own = [
        module
        for one in FAMILIES.installed.values()
        if one.is_builtin and one.declared is not None
        for module in one.declared.modules(framework)
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
    """Disable oneDNN in TensorFlow where ONEDNN_MAX_CPU_ISA restricts it.

    TensorFlow checks the processor itself for bfloat16, and the process aborts when the restricted oneDNN refuses it.
    """
    restricted = "ONEDNN_MAX_CPU_ISA" in environ and "TF_ENABLE_ONEDNN_OPTS" not in environ
    return {"TF_ENABLE_ONEDNN_OPTS": "0"} if restricted else {}


def forkserver_environment(threads: int) -> dict[str, str]:
    """Return the variables that must be set before a library is loaded."""
    count = str(threads)
    return {
        **onednn_environment(os.environ),
        # Threads of a step; results are bitwise reproducible only for the same number.
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "TF_NUM_INTRAOP_THREADS": count,
        # OpenBLAS (numpy, scipy) starts its threads on import, and a process with threads must not fork.
        "OPENBLAS_NUM_THREADS": "1",
        # So does pyarrow's allocator.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        # Sets iterate in the same order in every attempt, so a resumed run cannot differ by it.
        "PYTHONHASHSEED": "0",
        # glibc returns big blocks to the kernel at once and faults them in again each step; keeping them is 1.2-1.5x
        # faster.
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the largest value glibc takes
        "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
        "MALLOC_TOP_PAD_": str(64 << 20),
        # Plots are drawn to files, without a display.
        "MPLBACKEND": "Agg",
        # TensorFlow: no messages at start, and never the whole GPU.
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
