"""Classifiers of text. A preset is a complete model; fields given with it override its values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nightshift.errors import FieldError
from nightshift.families.family import CLASSIFIER_METRICS, Family, Parts
from nightshift.families.fields import Count, ModelSpec, Probability, Width
from nightshift.families.layers import Layer
from nightshift.families.optimizers import KERAS_ADAM
from nightshift.families.trial import Trial
from nightshift.names import Framework
from shared.datasets.token_counts import SMALLEST_BPE

Pooling = Literal["last", "mean", "max", "attention"]


class TextClassifierModel(ModelSpec):
    """Classifier of text.

    tokens -> embedding -> recurrent layers -> one vector per text -> [dense -> relu] x m -> output.
    With `affixes` the embeddings of a word's affixes are added to its own.
    They are the word in lower case, its first three, last three and last two characters, and its shape (`Xxx`, `dd`):
    what is known of a word that the training part does not have.
    With `ngrams` the weights of a text's n-grams are added to its logits.
    `pooling` makes the vector: the state after the last token (`last`, of each direction), or the mean, the maximum or
    a learned weighted mean (`attention`) over the tokens. No `units`: it is made of the embeddings.
    `output` is `softmax` (one logit per class) or `sigmoid` (two classes, one logit).
    """

    family: Literal["text_classifier"] = "text_classifier"
    framework: Framework = "torch"
    preset: str = "bigru-attention"
    tokenizer: Literal["word", "bpe", "char"]
    vocabulary_size: Annotated[
        int, Field(ge=4, le=1_000_000, description="Largest size of the vocabulary; small texts give fewer tokens.")
    ]
    min_count: Annotated[
        Count, Field(description="Words and characters that the training part has fewer times are `<unk>`.")
    ]
    lowercase: Annotated[bool, Field(description="Convert texts to lower case before they are split into tokens.")]
    length: Annotated[
        int, Field(ge=1, le=100_000, description="Most tokens of a text that are read; the rest is cut off.")
    ]
    embedding: Annotated[Width, Field(description="Width of a token's embedding.")]
    embedding_range: Annotated[float, Field(gt=0, le=10, description="Embeddings start uniform in ± this range.")]
    affixes: Annotated[
        bool, Field(description="Add to a word's embedding those of its affixes, which unknown words have, too.")
    ]
    cell: Annotated[Literal["simple_rnn", "lstm", "gru"], Field(description="Kind of the recurrent layers.")]
    units: Annotated[list[Width], Field(max_length=16, description="Units of each recurrent layer and direction.")]
    activation: Annotated[Literal["tanh", "relu"], Field(description="Activation of the recurrent layers.")]
    bidirectional: Annotated[bool, Field(description="Read each text in both directions.")]
    pooling: Pooling
    dense: Annotated[list[Width], Field(max_length=16, description="Units of each hidden dense layer.")]
    dropout: Annotated[
        Probability, Field(description="Share of embeddings and of the outputs of every layer dropped in training.")
    ]
    output: Literal["softmax", "sigmoid"]
    ngrams: Annotated[
        int, Field(ge=0, le=5, description="Most tokens of the n-grams whose weights are added to the logits; 0: none.")
    ]
    label_smoothing: Annotated[
        Probability, Field(description="Share of a label that training spreads over all classes; evaluation has none.")
    ]

    @model_validator(mode="after")
    def _buildable(self) -> TextClassifierModel:
        if self.affixes and self.tokenizer != "word":
            raise ValueError(f"affixes are those of words; with the tokenizer `{self.tokenizer}` set affixes to false")
        if self.tokenizer == "bpe" and self.vocabulary_size < SMALLEST_BPE:
            raise ValueError(f"a byte-pair vocabulary needs at least {SMALLEST_BPE} tokens; raise vocabulary_size")
        if self.pooling == "last" and not self.units:
            raise ValueError("pooling `last` is the state of a recurrent layer; add units, or use mean")
        return self

    def unfit(self, dataset: str, summary: Mapping[str, Any]) -> FieldError | None:
        classes = len(summary["classes"])
        if classes == 0:
            message = (
                f"a classifier of text learns from labelled texts and {dataset} has no classes; store a CSV with the "
                "columns text,label, JSON lines or a folder per class"
            )
            return FieldError(("family",), message)
        if self.output == "sigmoid" and classes != 2:
            message = f"`sigmoid` tells two classes apart and {dataset} has {classes}; use softmax"
            return FieldError(("output",), message)
        return None

    @property
    def width(self) -> int:
        """Return the width of the outputs of the last recurrent layer, or of the embedding if there is none."""
        return self.units[-1] * (2 if self.bidirectional else 1) if self.units else self.embedding

    def expected_facts(self, summary: Mapping[str, Any] | None) -> Mapping[str, Any]:
        classes = list(summary["classes"]) if summary else []
        return {"vocabulary": self.vocabulary_size, "classes": classes or ["0", "1"]}

    def layers(self, facts: Mapping[str, Any]) -> list[Layer]:
        from worker.families.text_classifier.layers import layers

        return layers(self, facts)


PRESETS: dict[str, dict[str, Any]] = {
    "bigru-attention": {
        "tokenizer": "word", "vocabulary_size": 20_000, "min_count": 2, "lowercase": True, "length": 256,
        "embedding": 128, "embedding_range": 0.25, "affixes": True, "cell": "gru", "units": [128], "activation": "tanh",
        "bidirectional": True, "pooling": "attention", "dense": [], "dropout": 0.5, "output": "softmax",
        "ngrams": 3, "label_smoothing": 0.1,
    },
    # Neither length nor vocabulary is stated, and for the second one not the width of its embedding.
    "simple-rnn-100": {
        "tokenizer": "word", "vocabulary_size": 10_000, "min_count": 1, "lowercase": True, "length": 200,
        "embedding": 64, "embedding_range": 0.05, "affixes": False,
        "cell": "simple_rnn", "units": [100], "activation": "tanh", "bidirectional": False, "pooling": "last",
        "dense": [], "dropout": 0.0, "output": "softmax", "ngrams": 0, "label_smoothing": 0.0,
    },
    "lstm-2x50": {
        "tokenizer": "word", "vocabulary_size": 10_000, "min_count": 1, "lowercase": True, "length": 200,
        "embedding": 64, "embedding_range": 0.05, "affixes": False,
        "cell": "lstm", "units": [50, 50], "activation": "relu", "bidirectional": False, "pooling": "last",
        "dense": [], "dropout": 0.0, "output": "sigmoid", "ngrams": 0, "label_smoothing": 0.0,
    },
}  # fmt: skip
TextClassifierModel.PRESETS = PRESETS

#: Training defaults of each preset.
TRAINING_DEFAULTS: dict[str, dict[str, Any]] = {
    "bigru-attention": {
        "epochs": 10,
        "batch_size": 32,
        "learning_rate": 0.003,
        "lr_schedule": "cosine",
        "validation_split": 0.0,
        "augment": ["word_dropout"],
    },
    "simple-rnn-100": {**KERAS_ADAM, "epochs": 10, "batch_size": 32, "validation_split": 0.0},
    "lstm-2x50": {**KERAS_ADAM, "epochs": 10, "batch_size": 64, "validation_split": 0.0},
}

#: The small case of the conformance tests.
TRIAL = Trial(
    model={"embedding": 8, "units": [6, 5], "dropout": 0.2, "length": 12, "vocabulary_size": 40, "dense": [7]},
    training={
        "epochs": 2, "max_steps": 60, "batch_size": 8, "learning_rate": 0.005, "lr_schedule": "cosine",
        "warmup_steps": 10, "grad_clip": 1.0, "validation_split": 0.2,
        "augment": ["word_deletion", "word_dropout", "word_replacement"],
        "early_stopping": {"metric": "val_loss", "patience": 5},
    },
    inference=({"task": "predict"},),
    dataset="worker.families.text_classifier.trial:store",
)  # fmt: skip

FAMILY = Family(
    name="text_classifier",
    description="Classifiers of text.",
    model=TextClassifierModel,
    default_preset="bigru-attention",
    training_defaults=TRAINING_DEFAULTS,
    learners={
        "torch": "worker.families.text_classifier.torch_learner:build",
        "tensorflow": "worker.families.text_classifier.tensorflow_learner:build",
    },
    parts=Parts(
        load_splits="worker.families.text_classifier.data:load_splits",
        load_test="worker.families.text_classifier.data:load_test",
        adapted="worker.training.classification.labels:adapted",
        write_extras="worker.families.text_classifier.data:write_extras",
        report="worker.families.text_classifier.evaluation:report",
        examples="worker.training.classification.per_example:examples",
        draw="worker.families.text_classifier.plots:draw",
        open_source="worker.families.text_classifier.batch_inference:open_source",
        export_onnx="worker.families.text_classifier.onnx_export:export",
    ),
    dataset_kind="text",
    augmentations=frozenset({"word_deletion", "word_dropout", "word_replacement"}),
    watchable=frozenset({"loss", "val_loss", "accuracy", "val_accuracy"}),
    # Accuracy still rises when the loss does, too: by the loss, the epoch that is kept would be one of the first.
    watched="val_accuracy",
    judged_by=CLASSIFIER_METRICS,
    tasks=("predict",),
    classifies=True,
    features=("embedding", "affixes", "rnn"),
    trial=TRIAL,
    loads=(1,),
)
