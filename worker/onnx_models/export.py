"""The ONNX network of a trained model, where its family has one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nightshift.families.learner import Array
from shared.job_files.artifact_files import ONNX
from worker import families

#: Most bytes of a file in this format.
MAX_BYTES = 2**31 - 1
#: Left of them for the operators and names.
_FOR_OPERATORS = 1 << 20


class CannotExport(Exception):
    """The model has no ONNX network; the message says why."""


def exported(model: Any, weights: Mapping[str, Array], facts: Mapping[str, Any]) -> bytes:
    """Return the network of a model as an ONNX file. Raises CannotExport, and the errors of an own family's exporter.

    `weights` are canonical, `facts` those of `config.json`.
    """
    part = families.optional_part(model.family, "export_onnx")
    if part is None:
        raise CannotExport(f"the family {model.family} has no ONNX exporter")
    if find_spec("onnx") is None:
        raise CannotExport("the package onnx is not installed")
    if sum(array.nbytes for array in weights.values()) > MAX_BYTES - _FOR_OPERATORS:
        raise CannotExport("the weights are larger than an ONNX file can be (2 GB)")
    found: bytes = part(model, weights, facts)
    return found


def write(
    root: Path, model: Any, weights: Mapping[str, Array], facts: Mapping[str, Any], log: Callable[[str, str], None]
) -> list[Path]:
    """Write `model/model.onnx` below `root` if there is a network, and return its path.

    A model is complete without it, so an error of the exporter is a line in the log.
    """
    if families.optional_part(model.family, "export_onnx") is None:
        return []
    try:
        content = exported(model, weights, facts)
    except CannotExport as why:
        log(f"no {ONNX}: {why}", "info")
        return []
    except Exception as error:
        log(f"no {ONNX}: the exporter of the family {model.family} fails: {type(error).__name__}: {error}", "warning")
        return []
    path = root / "model" / ONNX
    path.write_bytes(content)
    return [path]


def properties(model: Any, facts: Mapping[str, Any]) -> dict[str, str]:
    """Return what the file says of its model: family, settings, and what the outputs stand for."""
    named = {name: json.dumps(facts[name], ensure_ascii=False) for name in ("classes", "tags") if name in facts}
    return {"family": str(model.family), "model": json.dumps(model.model_dump(mode="json"), sort_keys=True), **named}
