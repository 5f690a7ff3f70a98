"""Reads the model that a job starts from or uses from its artifacts, trained in either framework.

Only safetensors and JSON are read, so a model file cannot hold code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from nightshift.errors import FieldError
from nightshift.families.learner import Array, Learner, LearnerSetup
from nightshift.families.training import Training
from shared.datasets.ingest.tokens import TOKENIZER
from shared.errors import BadData
from shared.specs.families import FAMILIES
from worker import families
from worker.runners.messages import Assignment
from worker.training.artifacts import MODEL_FORMAT

#: Fields of `config.json` that a learner is built from, beside the model's spec.
_FACTS = ("classes", "tags", "image", "vocabulary", "preprocessing")


@dataclass(frozen=True)
class TrainedModel:
    """A trained model in its artifacts' folder."""

    folder: Path
    model: Any  # the family's spec, with the framework of the training
    facts: Mapping[str, Any]  # of the training data: classes, vocabulary, …

    @property
    def family(self) -> str:
        """Name of the family."""
        return str(self.model.family)

    @cached_property
    def weights(self) -> dict[str, Array]:
        """Weights in canonical layout. Raises BadData."""
        try:
            return load_file(self.folder / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise BadData(f"the model's weights cannot be read: {error}") from error

    @cached_property
    def tokenizer(self) -> str | None:
        """Text of its `tokenizer.json`, if any."""
        path = self.folder / TOKENIZER
        return path.read_text(encoding="utf-8") if path.exists() else None

    def spec(self, framework: str) -> Any:
        """Return the model's spec for a framework."""
        return self.model.model_copy(update={"framework": framework})


def read_model(assignment: Assignment) -> TrainedModel:
    """Read the job's model. Raises BadData if its folder holds none of a known format."""
    if assignment.parent_model_dir is None:
        raise BadData("the model this job refers to has no folder on this worker")
    folder = Path(assignment.parent_model_dir)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadData(f"the model's config.json cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("format") != MODEL_FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise BadData(f"the model's config.json has format {found!r}; this version reads format {MODEL_FORMAT}")
    return TrainedModel(folder, _spec(config), {name: config[name] for name in _FACTS if name in config})


def refuse(objection: FieldError | None) -> None:
    """Raise BadData for the result of one of the API's checks: an alias may have moved to another model since."""
    if objection is not None:
        raise BadData(f"{'.'.join(map(str, objection.loc))}: {objection.msg}")


def _spec(config: Mapping[str, Any]) -> Any:
    family = FAMILIES.get(str(config.get("family")))
    if family is None:
        raise BadData(f"the model's family {config.get('family')!r} is unknown; there are {', '.join(FAMILIES)}")
    try:
        return family.model.model_validate_json(json.dumps(config.get("model")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        loc = ".".join(map(str, ("model", *first["loc"])))
        raise BadData(f"the model's config.json: {loc}: {first['msg']}") from error


def build(parent: TrainedModel, framework: str, assignment: Assignment, threads: int | None) -> Learner:
    """Return a learner with the model's weights in `framework`, for inference only."""
    setup = LearnerSetup(parent.spec(framework), Training(), 1, assignment.device, threads, parent.facts)
    learner = families.load(parent.family, framework)(setup)
    fill(learner, parent.weights)
    return learner


def fill(
    learner: Learner, weights: Mapping[str, Array], head: str | None = None, *, new_head: bool = False
) -> list[str]:
    """Load weights whose names and shapes must match.

    Weights whose names start with `head` may have other shapes; then, or with `new_head`, they all keep their initial
    values, and their names are returned. Raises BadData.
    """
    own = learner.weights()
    if own.keys() != weights.keys():
        different = sorted(own.keys() ^ weights.keys())
        raise BadData(f"the model's weights are not those its config.json describes: {', '.join(different[:5])}")
    mismatched = [name for name, array in own.items() if array.shape != weights[name].shape]
    wrong = [name for name in mismatched if head is None or not name.startswith(head)]
    if wrong:
        name = wrong[0]
        raise BadData(
            f"the model's weight {name} has shape {weights[name].shape}, its config.json says {own[name].shape}"
        )
    is_new = new_head or bool(mismatched)
    fresh = [name for name in own if is_new and head is not None and name.startswith(head)]
    learner.load_weights({name: own[name] if name in fresh else weights[name] for name in own})
    return fresh
