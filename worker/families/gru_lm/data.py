"""Text data sets for a language model: windows over a memory-mapped token stream.

A window is `window` input tokens and the token after them; the next window begins with that token, so every token but
the first is predicted once an epoch. `windows` [n, window + 1] is a view of the mapped stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nightshift.families.learner import Array, Splits
from nightshift.families.training import Training
from shared.datasets.ingest.tokens import TOKENIZER, OpenTokens, open_tokens, token_stream
from shared.datasets.ingest.vocabulary import TokenizerSpec
from shared.datasets.token_counts import window_count
from shared.errors import BadData
from shared.specs.training import held_out as rows_held_out
from worker.families.gru_lm.family import GruLmModel


@dataclass(frozen=True, kw_only=True)
class TextSplits(Splits):
    """Splits with the token stream that they are views of."""

    stream: OpenTokens


def load_splits(dataset_dir: Path, model: GruLmModel, training: Training, tokenizer: str | None = None) -> TextSplits:
    """Load the training, validation and test parts as windows.

    `tokenizer` is the text of a `tokenizer.json` to keep (fine-tuning); None builds the model's own from the training
    part. Without a validation part, the end of the training part becomes one. Raises BadData if the text is too short.
    """
    spec = TokenizerSpec(model.tokenizer, model.vocabulary_size)
    stream = open_tokens(token_stream(dataset_dir, tokenizer or spec))
    train = windows(stream.tokens("train"), model.window)
    if len(train) < 2:
        raise BadData(
            f"the training text has {len(stream.tokens('train'))} tokens, fewer than two windows of {model.window}; "
            "lower model.window"
        )
    held_out = _part(stream, "valid", model.window) if training.validation_split else None
    if held_out is None and training.validation_split:
        cut = len(train) - rows_held_out(len(train), training.validation_split)
        train, held_out = train[:cut], {"windows": train[cut:]}
    facts: dict[str, Any] = {
        "vocabulary": stream.vocabulary,
        "preprocessing": {"tokenizer": stream.meta["kind"], "window": model.window},
    }
    test = _part(stream, "test", model.window)
    return TextSplits({"windows": train}, held_out, test, facts, len(train), stream=stream)


def load_test(dataset_dir: Path, model: GruLmModel, facts: Mapping[str, Any], tokenizer: str | None) -> TextSplits:
    """Load the test part in the tokens of a trained model.

    Without a test part, the training part (however short) provides prompts. Raises BadData if there are no tokens.
    """
    if tokenizer is None:
        raise BadData(f"the model has no {TOKENIZER}")
    stream = open_tokens(token_stream(dataset_dir, tokenizer))
    train, test = (_part(stream, split, model.window) for split in ("train", "test"))
    if train is None and test is None:
        raise BadData("the text has no tokens to predict")
    given = {"vocabulary": stream.vocabulary}
    return TextSplits(train or {}, None, test, given, 0, stream=stream)


def windows(tokens: Array, window: int) -> Array:
    """Return all whole windows of a stream as a read-only view [n, window + 1]; the rest is not used."""
    n = window_count(len(tokens), window)
    if n == 0:
        return np.empty((0, window + 1), tokens.dtype)
    size = tokens.itemsize
    return np.lib.stride_tricks.as_strided(tokens, (n, window + 1), (window * size, size), writeable=False)


def _part(stream: OpenTokens, split: str, window: int) -> dict[str, Array] | None:
    """Return the windows of a part to evaluate, or None if there is nothing to predict.

    A part shorter than a window becomes one short window.
    """
    tokens = stream.tokens(split) if split in stream.splits else np.empty(0, np.uint16)
    return {"windows": windows(tokens, min(window, len(tokens) - 1))} if len(tokens) > 1 else None


def write_extras(root: Path, splits: TextSplits) -> list[Path]:
    """Write `model/tokenizer.json` beside the weights."""
    path = root / "model" / TOKENIZER
    path.write_bytes((splits.stream.folder / TOKENIZER).read_bytes())
    return [path]
