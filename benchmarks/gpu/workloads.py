"""A model of each family with random data, in the size of its default preset or small enough for a test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import bench_gan, bench_mlp, bench_tagger, bench_text_classifier, plain_cnn, plain_gru
from nightshift.families.learner import Array
from shared.specs.families import FAMILIES

#: Settings for tests, of the model of each family.
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"image_size": [12, 12], "filters": [4], "pool": [True], "dense": [8]},
    "gan": {"preset": "dcgan", "generator_filters": [8, 4], "discriminator_filters": [4, 8]},
    "gru_lm": {"vocabulary_size": 300, "embedding": 8, "units": [8], "window": 6},
    "mlp": {"hidden": [8]},
    "text_classifier": {"preset": "bigru-attention", "embedding": 8, "units": [4], "affixes": False},
    "tagger": {"preset": "bilstm", "embedding": 8, "units": [4]},
}
#: Settings whose rivals are plain: words without affixes.
FULL: dict[str, dict[str, Any]] = {
    "text_classifier": {"preset": "bigru-attention", "affixes": False},
    "tagger": {"preset": "bilstm"},
}
#: Rows of a batch: large enough that a card has something to do. Small ones are measured by `launches`.
BATCH = {"cnn": 256, "gan": 256, "gru_lm": 128, "mlp": 1024, "text_classifier": 256, "tagger": 128}
SMALL_BATCH = 8
#: Bytes that a step of Adam moves for each weight: it reads weight, gradient and both moments, and writes all but one.
ADAM_BYTES = 28


@dataclass(frozen=True)
class Workload:
    """A model with its data."""

    family: str
    model: Any
    facts: dict[str, Any]
    data: dict[str, Array]
    batch_size: int
    #: The array that is predicted from, and what a row of it counts: 1, or the tokens of a window.
    inputs: str
    units: int = 1

    @property
    def rows(self) -> int:
        return len(next(iter(self.data.values())))

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self._layers())

    def products(self) -> float:
        """Return about how many floating-point operations a training step needs for one row.

        Two for each weight at each place where it is used, and twice as many backward; embeddings need none. The
        networks of a GAN are used three times by a step.
        """
        uses = 3 if self.family == "gan" else 1
        return 6.0 * uses * sum(layer.parameters * self._places(layer) for layer in self._layers())

    def _layers(self) -> list[Any]:
        found: list[Any] = self.model.layers(self.facts)
        return found

    def _places(self, layer: Any) -> float:
        if "embedding" in layer.kind:
            return 0.0
        longest = max((array.shape[1] for array in self.data.values() if array.ndim > 1), default=1)
        return float(math.prod(longest if size is None else size for size in layer.shape[:-1]))


def workload(family: str, framework: str, *, small: bool = False) -> Workload:
    """Return the workload of a family."""
    settings = (SMALL if small else FULL).get(family, {})
    model = FAMILIES[family].model.model_validate({**_needed(family), **settings, "framework": framework})
    return _MAKERS[family](model, SMALL_BATCH if small else BATCH[family])


def _needed(family: str) -> dict[str, Any]:
    return {"target": "y"} if family == "mlp" else {}


def _cnn(model: Any, batch_size: int) -> Workload:
    facts = {"classes": [str(n) for n in range(plain_cnn.CLASSES)]}
    return Workload("cnn", model, facts, plain_cnn.make_data(model), batch_size, "x")


def _gan(model: Any, batch_size: int) -> Workload:
    return Workload("gan", model, {}, {"x": bench_gan.make_pictures(model)}, batch_size, "x")


def _gru_lm(model: Any, batch_size: int) -> Workload:
    facts, windows = {"vocabulary": model.vocabulary_size}, plain_gru.make_windows(model)
    return Workload("gru_lm", model, facts, {"windows": windows}, batch_size, "windows", model.window)


def _mlp(model: Any, batch_size: int) -> Workload:
    return Workload("mlp", model, bench_mlp.facts(), bench_mlp.data(), batch_size, "x")


def _text_classifier(model: Any, batch_size: int) -> Workload:
    facts = {"vocabulary": bench_text_classifier.VOCABULARY, "classes": list("abcdef")}
    return Workload(
        "text_classifier", model, facts, bench_text_classifier.questions(affixes=model.affixes), batch_size, "x"
    )


def _tagger(model: Any, batch_size: int) -> Workload:
    facts = {"vocabulary": bench_tagger.WORDS, "tags": [f"T{n}" for n in range(bench_tagger.TAGS)]}
    return Workload("tagger", model, facts, bench_tagger.make_sentences(model), batch_size, "tokens")


_MAKERS: dict[str, Callable[[Any, int], Workload]] = {
    "cnn": _cnn, "gan": _gan, "gru_lm": _gru_lm, "mlp": _mlp, "text_classifier": _text_classifier, "tagger": _tagger,
}  # fmt: skip
