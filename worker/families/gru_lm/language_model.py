"""Scoring and generating text with a trained language model: the same code for both frameworks.

Every random number is keyed by (seed, number of the prompt, position), so a continuation depends neither on the other
prompts in its batch nor on where a resumed run began.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array
from worker.training.numerics.data_order import rng_seed

#: Tokens of a long text scored at once; the recurrent state carries over. Too high: memory.
SEGMENT = 256


class LanguageModel(Protocol):
    """The part of a learner used here. Its recurrent state is opaque."""

    def follow(self, windows: Array, state: Any) -> tuple[Array, Any]:
        """Return log-likelihoods [n, t] of windows [n, t + 1] that continue `state`, and the new state."""
        ...

    def read(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """Return logits [n, vocabulary] of the token after `tokens` [n, t], and the new state."""
        ...


class Tokenizer(Protocol):
    """Convert text to token ids and back."""

    def encode(self, text: str) -> npt.NDArray[np.uint32]: ...

    def decode(self, ids: Any) -> str: ...


@dataclass(frozen=True)
class Score:
    """Log-likelihood of a document."""

    log_likelihood: float  # nats, of all tokens
    tokens: int

    @property
    def perplexity(self) -> float:
        """Per token; infinity if it overflows a float."""
        mean = -self.log_likelihood / max(1, self.tokens)
        return math.exp(mean) if mean < 700 else math.inf


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: from logits / temperature, limited by `top_k` and `top_p`.

    `top_k` keeps the k most likely tokens; `top_p` the smallest set with that much probability among them (nucleus
    sampling, Holtzman et al. 2020). `top_k` 1 always takes the most likely token.
    """

    max_new_tokens: int = 100
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0


def score(model: LanguageModel, tokenizer: Tokenizer, documents: Sequence[str], batch_size: int = 64) -> list[Score]:
    """Return the score of each document, read from the beginning of a line, in the order given."""
    texts = [_encode_from_line_start(tokenizer, document) for document in documents]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found: dict[int, Score] = {}
    for at in range(0, len(order), batch_size):
        rows = order[at : at + batch_size]
        found |= dict(zip(rows, _score_batch(model, [texts[i] for i in rows]), strict=True))
    return [found[i] for i in range(len(texts))]


def _score_batch(model: LanguageModel, texts: Sequence[Array]) -> list[Score]:
    lengths = np.array([len(text) for text in texts])
    padded, totals, state = _padded(texts), np.zeros(len(texts)), None
    for start in range(0, int(lengths.max()) - 1, SEGMENT):
        piece = padded[:, start : start + SEGMENT + 1]
        likelihoods, state = model.follow(piece, state)
        predicted = start + 1 + np.arange(likelihoods.shape[1]) < lengths[:, None]
        totals += np.where(predicted, likelihoods.astype(np.float64), 0.0).sum(axis=1)
    return [Score(float(total), int(length) - 1) for total, length in zip(totals, lengths, strict=True)]


def generate(
    model: LanguageModel, tokenizer: Tokenizer, prompts: Sequence[str], sampling: Sampling, first: int = 0
) -> list[str]:
    """Return the continuation of each prompt (without the prompt).

    `first` is the number of the first prompt, for prompts given in parts.
    """
    texts = [_encode_from_line_start(tokenizer, prompt) for prompt in prompts]
    return (
        [tokenizer.decode(tokens.tolist()) for tokens in continue_tokens(model, texts, sampling, first)]
        if texts
        else []
    )


def continue_tokens(model: LanguageModel, texts: Sequence[Array], sampling: Sampling, first: int = 0) -> Array:
    """Return new tokens [n, max_new_tokens] after each of `texts` (at least one token each)."""
    lengths = np.array([len(text) for text in texts])
    shortest, longest = int(lengths.min()), int(lengths.max())
    tokens = np.concatenate([_padded(texts), np.zeros((len(texts), sampling.max_new_tokens), np.int64)], axis=1)
    logits, state = model.read(tokens[:, :shortest], None)
    for place in range(shortest, longest + sampling.max_new_tokens):
        writing = np.flatnonzero((place >= lengths) & (place < lengths + sampling.max_new_tokens))
        numbers = [_uniform(sampling.seed, first + int(row), place - int(lengths[row])) for row in writing]
        tokens[writing, place] = choose(logits[writing], sampling, np.array(numbers))
        logits, state = model.read(tokens[:, place : place + 1], state)
    return np.stack(
        [row[length : length + sampling.max_new_tokens] for row, length in zip(tokens, lengths, strict=True)]
    )


def choose(logits: Array, sampling: Sampling, uniform: Array) -> npt.NDArray[np.int64]:
    """Draw one token per row of logits [n, vocabulary], by uniform numbers [n]."""
    order = _candidates(logits, sampling)
    scaled = np.take_along_axis(logits, order, 1).astype(np.float64) / sampling.temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    cumulative = np.cumsum(weights, axis=1)
    cumulative /= cumulative[:, -1:]
    if sampling.top_p is not None:
        last = (cumulative < sampling.top_p).sum(axis=1)
        uniform = uniform * np.take_along_axis(cumulative, np.minimum(last, order.shape[1] - 1)[:, None], 1)[:, 0]
    place = np.minimum((cumulative <= uniform[:, None]).sum(axis=1), order.shape[1] - 1)
    return np.take_along_axis(order, place[:, None], 1)[:, 0].astype(np.int64)


def _candidates(logits: Array, sampling: Sampling) -> Array:
    """Return the ids that may be drawn, [n, k]: most likely first if that matters, ties by lower id."""
    n, vocabulary = logits.shape
    found = np.broadcast_to(np.arange(vocabulary), (n, vocabulary))
    if sampling.top_k is None and sampling.top_p is None:
        return found
    if sampling.top_k is not None and sampling.top_k < vocabulary:
        found = np.sort(np.argpartition(-logits, sampling.top_k - 1, axis=1)[:, : sampling.top_k], axis=1)
    ranks = np.argsort(-np.take_along_axis(logits, found, 1), axis=1, kind="stable")
    return np.take_along_axis(found, ranks, 1)


def _uniform(seed: int, row: int, position: int) -> float:
    return rng_seed(seed, f"generate/{row}", position) / 2**63


def _encode_from_line_start(tokenizer: Tokenizer, text: str) -> Array:
    """Return the text's tokens after a newline token, which stands for the beginning of a text."""
    return np.concatenate([tokenizer.encode("\n")[-1:], tokenizer.encode(text)]).astype(np.int64)


def _padded(texts: Sequence[Array]) -> Array:
    padded = np.zeros((len(texts), max(len(text) for text in texts)), np.int64)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = text
    return padded
