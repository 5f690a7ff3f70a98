"""Taggers of sentences. A preset is a complete model; fields given with it override its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nightshift.errors import FieldError
from nightshift.families.family import Family, Parts
from nightshift.families.fields import ModelSpec, Probability, Width
from nightshift.families.layers import Layer
from nightshift.families.trial import Trial
from nightshift.metrics import Metric
from nightshift.names import Framework
from shared.specs.training import held_out
from worker.families.tagger.entities import have_entities
from worker.training.words.affixes import AFFIXES, BUCKETS

#: Most weights of a model; more would not fit into memory with gradients and two moments.
MAX_WEIGHTS = 2_000_000_000
#: Matrices [h, in] and [h, h] of a cell, and its biases [h].
_GATES = {"simple_rnn": (1, 1), "lstm": (4, 4), "gru": (3, 6)}
_CELLS = {"simple_rnn": "simple RNN", "lstm": "LSTM", "gru": "GRU"}
#: Metrics of the test part: of tags that mark entities, and of any tags.
OF_ENTITIES = ("f1_entity", "precision_entity", "recall_entity")
_OF_TOKENS = ("test_accuracy", "f1_macro", "test_loss")
#: Metrics that early stopping can watch, likewise.
_WATCHED_ENTITIES, _WATCHED_TOKENS = "val_f1_entity", ("val_accuracy", "val_loss")


class TaggerModel(ModelSpec):
    """Tagger of sentences: part of speech, named entities, any tag per token.

    words -> embedding, beside embeddings of affixes -> [recurrent layer -> dropout] x n -> dense -> softmax, at every
    token. The affixes of a word are the word in lower case, its first three, last three and last two characters, and
    its shape (`Xxx`, `dd`): what is known of a word that the training part does not have.
    """

    family: Literal["tagger"] = "tagger"
    framework: Framework = "torch"
    preset: str = "bilstm-affixes"
    vocabulary_size: Annotated[
        int, Field(ge=4, le=1_000_000, description="Most words with an embedding; the others are unknown words.")
    ]
    length: Annotated[
        int, Field(ge=1, le=10_000, description="Most tokens of a row; longer sentences are cut into several rows.")
    ]
    embedding: Annotated[Width, Field(description="Width of a word's embedding.")]
    affixes: Annotated[int, Field(ge=0, le=4_096, description="Width of the embedding of each affix; 0: none.")]
    cell: Annotated[Literal["simple_rnn", "lstm", "gru"], Field(description="Kind of the recurrent layers.")]
    units: Annotated[
        list[Width], Field(min_length=1, max_length=16, description="Units of each recurrent layer and direction.")
    ]
    bidirectional: Annotated[bool, Field(description="Read each sentence in both directions.")]
    dropout: Annotated[
        Probability, Field(description="Share of the embeddings and of each layer's outputs dropped in training.")
    ]

    @model_validator(mode="after")
    def _affordable(self) -> TaggerModel:
        if sum(layer.parameters for layer in self._layers(self.vocabulary_size, 2)) > MAX_WEIGHTS:
            raise ValueError(f"the model would have more than {MAX_WEIGHTS:,} weights; use smaller units or vocabulary")
        return self

    @property
    def features(self) -> int:
        """Return the number of ids of a token: of its word, and of each affix."""
        return 1 + (len(AFFIXES) if self.affixes else 0)

    @property
    def read_width(self) -> int:
        """Return the width of what the first recurrent layer reads of a token."""
        return self.embedding + self.affixes * len(AFFIXES)

    @property
    def ways(self) -> int:
        """Return the number of directions."""
        return 2 if self.bidirectional else 1

    def unfit(self, dataset: str, summary: Mapping[str, Any]) -> FieldError | None:
        if summary.get("tags"):
            return None
        message = f"a tagger learns from sentences with tags and {dataset} has none; store CoNLL columns"
        return FieldError(("family",), message)

    def lacks(self, metric: str, summary: Mapping[str, Any]) -> str | None:
        tags = summary.get("tags")
        if not tags or metric not in (*OF_ENTITIES, _WATCHED_ENTITIES) or have_entities(tags):
            return None
        known = _WATCHED_TOKENS if metric == _WATCHED_ENTITIES else _OF_TOKENS
        return f"there is no {metric}, because the tags mark no entities (B-…); use {' or '.join(known)}"

    def most_rows(self, summary: Mapping[str, Any], validation_split: float) -> int | None:
        """Count the rows that the training sentences can be cut into, but one of each that is held out."""
        train = summary["splits"]["train"]
        sentences = int(train["count"])
        taken = 0 if "valid" in summary["splits"] else held_out(sentences, validation_split)
        return sentences - taken + (int(train["tokens"]) - sentences) // self.length

    def expected_facts(self, summary: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return the tags of the data set, and the vocabulary at its largest."""
        tags = (summary or {}).get("tags") or ["B-PER", "I-PER", "B-LOC", "I-LOC", "O"]
        return {"vocabulary": self.vocabulary_size, "tags": list(tags)}

    def layers(self, facts: Mapping[str, Any]) -> Sequence[Layer]:
        return list(self._layers(int(facts["vocabulary"]), len(facts["tags"])))

    def _layers(self, vocabulary: int, tags: int) -> Iterator[Layer]:
        dropped = f", dropout {self.dropout:g}" if self.dropout else ""
        matrices, biases = _GATES[self.cell]
        cell = f"{'bidirectional ' if self.bidirectional else ''}{_CELLS[self.cell]}{dropped}"
        yield Layer("embedding", f"embedding of words{dropped}", (None, self.embedding), vocabulary * self.embedding)
        if self.affixes:
            rows, width = len(AFFIXES) * BUCKETS, len(AFFIXES) * self.affixes
            yield Layer("affixes", f"embedding of {len(AFFIXES)} affixes{dropped}", (None, width), rows * self.affixes)
        inputs = self.read_width
        for i, units in enumerate(self.units):
            count = self.ways * (matrices * units * (inputs + units) + biases * units)
            inputs = self.ways * units
            yield Layer(f"rnn{i}", cell, (None, inputs), count)
        yield Layer("output", "dense, softmax", (None, tags), tags * (inputs + 1))


_BILSTM: dict[str, Any] = {
    "vocabulary_size": 50_000, "length": 128, "embedding": 100, "affixes": 0, "cell": "lstm", "units": [100],
    "bidirectional": True, "dropout": 0.5,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {"bilstm-affixes": {**_BILSTM, "affixes": 25}, "bilstm": _BILSTM}
TaggerModel.PRESETS = PRESETS

_TRAINING: dict[str, Any] = {
    "optimizer": "adam", "learning_rate": 0.002, "batch_size": 32, "epochs": 15, "grad_clip": 5.0,
    "augment": ["word_dropout"],
}  # fmt: skip
#: Training defaults of each preset.
TRAINING_DEFAULTS: dict[str, dict[str, Any]] = dict.fromkeys(PRESETS, _TRAINING)

#: The small case of the conformance tests.
TRIAL = Trial(
    model={"embedding": 6, "affixes": 3, "units": [5, 4], "dropout": 0.2, "vocabulary_size": 60, "length": 9},
    training={
        "epochs": 3, "batch_size": 32, "learning_rate": 0.01, "lr_schedule": "cosine", "warmup_steps": 10,
        "grad_clip": 1.0, "validation_split": 0.2, "augment": ["word_dropout"],
        "early_stopping": {"metric": "val_f1_entity", "patience": 5},
    },
    inference=({"task": "predict"},),
    dataset="worker.families.tagger.trial_data:store",
)  # fmt: skip

FAMILY = Family(
    name="tagger",
    description="Taggers of sentences: part of speech, named entities.",
    model=TaggerModel,
    default_preset="bilstm-affixes",
    training_defaults=TRAINING_DEFAULTS,
    learners={
        "torch": "worker.families.tagger.torch_learner:build",
        "tensorflow": "worker.families.tagger.tensorflow_learner:build",
    },
    parts=Parts(
        load_splits="worker.families.tagger.data:load_splits",
        load_test="worker.families.tagger.data:load_test",
        write_extras="worker.families.tagger.data:write_extras",
        report="worker.families.tagger.evaluation:report",
        examples="worker.families.tagger.per_example:examples",
        draw="worker.families.tagger.plots:draw",
        open_source="worker.families.tagger.batch_inference:open_source",
        export_onnx="worker.families.tagger.onnx_export:export",
    ),
    dataset_kind="text",
    augmentations=frozenset({"word_dropout"}),
    watchable=frozenset({"loss", "accuracy", *_WATCHED_TOKENS, _WATCHED_ENTITIES}),
    watched="val_accuracy",
    judged_by=(*OF_ENTITIES, *_OF_TOKENS),
    metrics={
        "f1_entity": Metric("entity F1", "max"),
        "precision_entity": Metric("entity precision", "max"),
        "recall_entity": Metric("entity recall", "max"),
    },
    tasks=("predict",),
    features=("embedding", "affixes", "rnn"),
    trial=TRIAL,
    loads=(1,),
)
