"""Recurrent language models. A preset is a complete model; fields given with it override its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nightshift.families.family import Family, Parts
from nightshift.families.fields import ModelSpec, Probability, Width
from nightshift.families.layers import Layer
from nightshift.families.optimizers import KERAS_ADAM
from nightshift.families.trial import Trial
from nightshift.names import Framework
from shared.datasets.token_counts import SMALLEST_BPE

Tokenizer = Literal["word", "bpe", "char"]
RecurrentNorm = Literal["none", "layer"]

#: Most weights of a model; more would not fit into memory with gradients and two moments.
MAX_WEIGHTS = 2_000_000_000


class GruLmModel(ModelSpec):
    """Recurrent language model.

    tokens -> embedding -> [GRU -> norm -> dropout] x n -> dense over the vocabulary, at every position.
    Each window of `window` tokens starts from a zero state and predicts the token after each of its positions.
    """

    family: Literal["gru_lm"] = "gru_lm"
    framework: Framework = "torch"
    preset: str = "gru-2x512"
    embedding: Annotated[Width, Field(description="Width of a token's embedding.")]
    units: Annotated[list[Width], Field(min_length=1, max_length=16, description="Units of each GRU layer.")]
    normalization: RecurrentNorm
    dropout: Annotated[Probability, Field(description="Share of each GRU layer's outputs dropped in training.")]
    tokenizer: Tokenizer
    vocabulary_size: Annotated[
        int, Field(ge=4, le=1_000_000, description="Largest size of the vocabulary; small texts give fewer tokens.")
    ]
    window: Annotated[int, Field(ge=2, le=100_000, description="Tokens per training window.")]

    @model_validator(mode="after")
    def _affordable(self) -> GruLmModel:
        if self.tokenizer == "bpe" and self.vocabulary_size < SMALLEST_BPE:
            raise ValueError(f"a byte-pair vocabulary needs at least {SMALLEST_BPE} tokens; raise vocabulary_size")
        if self.weight_count(self.vocabulary_size) > MAX_WEIGHTS:
            raise ValueError(f"the model would have more than {MAX_WEIGHTS:,} weights; use smaller units or vocabulary")
        return self

    def inputs_of_layers(self) -> list[int]:
        """Return the input width of each GRU layer."""
        return [self.embedding, *self.units[:-1]]

    def weight_count(self, vocabulary: int) -> int:
        """Return the number of weights of a model over `vocabulary` tokens."""
        return sum(layer.parameters for layer in self._layers(vocabulary))

    def expected_facts(self, summary: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return the vocabulary at its largest: how many tokens a text has is known when it was tokenized."""
        return {"vocabulary": self.vocabulary_size}

    def layers(self, facts: Mapping[str, Any]) -> Sequence[Layer]:
        return list(self._layers(int(facts["vocabulary"])))

    def _layers(self, vocabulary: int) -> Iterator[Layer]:
        window, dropped = self.window, f", dropout {self.dropout:g}" if self.dropout else ""
        yield Layer("embedding", "embedding", (window, self.embedding), vocabulary * self.embedding)
        for i, (inputs, units) in enumerate(zip(self.inputs_of_layers(), self.units, strict=True)):
            normed = self.normalization == "layer"
            kind = f"GRU{'' if normed else dropped}"
            yield Layer(f"gru{i}", kind, (window, units), 3 * units * (inputs + units + 2))
            if normed:
                yield Layer(f"norm{i}", f"layer normalization{dropped}", (window, units), 2 * units)
        yield Layer("output", "dense, softmax", (window, vocabulary), vocabulary * (self.units[-1] + 1))


PRESETS: dict[str, dict[str, Any]] = {
    "gru-2x512": {
        "embedding": 256, "units": [512, 512], "normalization": "none", "dropout": 0.1,
        "tokenizer": "word", "vocabulary_size": 10_000, "window": 100,
    },
}  # fmt: skip
GruLmModel.PRESETS = PRESETS

#: Training defaults of each preset: those of the published listing.
TRAINING_DEFAULTS: dict[str, dict[str, Any]] = {
    "gru-2x512": {
        **KERAS_ADAM, "learning_rate": 0.001, "lr_schedule": "constant", "batch_size": 64, "epochs": 10,
        "validation_split": 0.2,
    },
}  # fmt: skip

#: The small case of the conformance tests.
TRIAL = Trial(
    model={"embedding": 8, "units": [10, 10], "dropout": 0.1, "window": 5, "vocabulary_size": 40},
    training={
        "epochs": 2, "batch_size": 4, "learning_rate": 0.005, "lr_schedule": "cosine", "warmup_steps": 20,
        "grad_clip": 1.0, "validation_split": 0.2, "augment": ["word_deletion", "word_dropout"],
        "early_stopping": {"metric": "val_loss", "patience": 5},
    },
    inference=(
        {"task": "score"},
        {"task": "generate", "prompts": ["the 3 cats", "", "saw"] * 40, "max_new_tokens": 4},
    ),
)  # fmt: skip

FAMILY = Family(
    name="gru_lm",
    description="Recurrent language models.",
    model=GruLmModel,
    default_preset="gru-2x512",
    training_defaults=TRAINING_DEFAULTS,
    learners={
        "torch": "worker.families.gru_lm.torch_learner:build",
        "tensorflow": "worker.families.gru_lm.tensorflow_learner:build",
    },
    parts=Parts(
        load_splits="worker.families.gru_lm.data:load_splits",
        load_test="worker.families.gru_lm.data:load_test",
        write_extras="worker.families.gru_lm.data:write_extras",
        report="worker.families.gru_lm.evaluation:report",
        examples="worker.families.gru_lm.per_example:examples",
        draw="worker.families.gru_lm.plots:draw",
        open_source="worker.families.gru_lm.batch_inference:open_source",
        export_onnx="worker.families.gru_lm.onnx_export:export",
    ),
    dataset_kind="text",
    augmentations=frozenset({"word_deletion", "word_dropout", "word_replacement"}),
    watchable=frozenset({"loss", "val_loss", "accuracy", "val_accuracy", "perplexity", "val_perplexity"}),
    judged_by=("test_perplexity", "test_loss"),
    tasks=("score", "generate"),
    prompted=True,
    features=("embedding", "gru", "norm"),
    trial=TRIAL,
    state_version=2,
    loads=(1, 2),
)
