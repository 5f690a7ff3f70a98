"""The model a job starts from or uses: read back from its artifacts, whatever framework trained it.

Only safetensors and JSON are read, so a model file can hold numbers and text but no code.
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

from shared.datasets.ingest.tokens import TOKENIZER
from shared.errors import BadData
from shared.specs.families import FAMILIES
from shared.specs.training import Training
from worker import families
from worker.runners.messages import Assignment
from worker.training.artifacts import MODEL_FORMAT
from worker.training.learner import Array, Learner, LearnerSetup

#: What of `config.json` a learner is built from, beside the model's spec.
_FACTS = ("classes", "image", "vocabulary", "preprocessing")


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, as its artifacts hold it."""

    folder: Path
    model: Any  # the family's spec, with the framework it was trained in
    facts: Mapping[str, Any]  # of the data it was trained on: classes, vocabulary, …

    @property
    def family(self) -> str:
        return str(self.model.family)

    @cached_property
    def weights(self) -> dict[str, Array]:
        """Canonical arrays. Raises BadData."""
        try:
            return load_file(self.folder / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise BadData(f"the model's weights cannot be read: {error}") from error

    @cached_property
    def tokenizer(self) -> str | None:
        """The text of its `tokenizer.json`, where it has one."""
        path = self.folder / TOKENIZER
        return path.read_text(encoding="utf-8") if path.exists() else None

    def spec(self, framework: str) -> Any:
        """The same model in this framework."""
        return self.model.model_copy(update={"framework": framework})


def read_model(assignment: Assignment) -> TrainedModel:
    """Raises BadData where the folder holds no model that this version understands."""
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


def _spec(config: Mapping[str, Any]) -> Any:
    family = FAMILIES.get(str(config.get("family")))
    if family is None:
        raise BadData(f"the model's family {config.get('family')!r} is unknown; there are {', '.join(FAMILIES)}")
    try:
        return family.model.model_validate_json(json.dumps(config.get("model")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("model", *first["loc"])))
        raise BadData(f"the model's config.json: {place}: {first['msg']}") from error


def build(parent: TrainedModel, framework: str, assignment: Assignment, threads: int | None) -> Learner:
    """A learner of the parent's model in `framework`, with its weights: to be used, not trained."""
    setup = LearnerSetup(
        model=parent.spec(framework),
        training=Training(),
        total_steps=1,
        device=assignment.device,
        threads=threads,
        facts=parent.facts,
    )
    learner = families.load(parent.family, framework)(setup)
    fill(learner, parent.weights)
    return learner


def fill(learner: Learner, weights: Mapping[str, Array], head: str | None = None) -> list[str]:
    """Load weights that must fit in every name and shape; those whose name begins with `head` may differ and then stay
    as the learner made them. Returns the names of these. Raises BadData."""
    own = learner.weights()
    if own.keys() != weights.keys():
        odd = sorted(own.keys() ^ weights.keys())
        raise BadData(f"the model's weights are not those its config.json describes: {', '.join(odd[:5])}")
    misfits = [name for name, array in own.items() if array.shape != weights[name].shape]
    wrong = [name for name in misfits if head is None or not name.startswith(head)]
    if wrong:
        name = wrong[0]
        raise BadData(
            f"the model's weight {name} has shape {weights[name].shape}, its config.json says {own[name].shape}"
        )
    fresh = [name for name in own if misfits and head is not None and name.startswith(head)]
    learner.load_weights({name: own[name] if name in fresh else weights[name] for name in own})
    return fresh
