"""Evaluation of a language model on its test part, with text samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from nightshift.families.learner import Array, Evaluation, Learner
from nightshift.families.training import Training
from shared.datasets.ingest.vocabulary import TextTokenizer
from worker.families.gru_lm.data import TextSplits
from worker.families.gru_lm.family import GruLmModel
from worker.families.gru_lm.language_model import Sampling, continue_tokens

#: Windows evaluated at a time.
BATCH_SIZE = 64
#: Number of samples at the end of a training, prompt tokens (from the test part) and new tokens by kind of tokenizer.
SAMPLES, PROMPT = 6, {"word": 8, "bpe": 12, "char": 40}
NEW_TOKENS = {"word": 100, "bpe": 120, "char": 400}
TEMPERATURE, TOP_K = 0.8, 40


def report(learner: Learner, splits: TextSplits, model: GruLmModel, training: Training) -> Evaluation:
    """Return loss, perplexity and next-token accuracy on the test part; the document also has samples."""
    tokenizer = splits.stream.tokenizer()
    metrics: dict[str, float] = {}
    document: dict[str, Any] = {"vocabulary": tokenizer.size, "tokenizer": tokenizer.kind}
    if splits.test is not None:
        windows = splits.test["windows"]
        metrics = {f"test_{name}": value for name, value in learner.evaluate(splits.test, BATCH_SIZE).items()}
        document |= {"tokens": int(windows.shape[0] * (windows.shape[1] - 1))}
    document |= {"metrics": metrics, "samples": samples(learner, tokenizer, splits, training.seed)}
    return Evaluation(metrics, document)


def samples(learner: Any, tokenizer: TextTokenizer, splits: TextSplits, seed: int) -> list[dict[str, str]]:
    """Return prompts and the model's continuations.

    Prompts are the beginnings of evenly spaced windows of the test part, or of the training part if there is none.
    """
    windows = (splits.test or splits.train)["windows"]
    rows = np.unique(np.linspace(0, len(windows) - 1, SAMPLES).round().astype(np.int64))
    prompts: list[Array] = [windows[row][: PROMPT[tokenizer.kind]].astype(np.int64) for row in rows]
    sampling = Sampling(NEW_TOKENS[tokenizer.kind], TEMPERATURE, TOP_K, None, seed)
    continuations = continue_tokens(learner, prompts, sampling)
    pairs = zip(prompts, continuations, strict=True)
    return [{"prompt": tokenizer.decode(a.tolist()), "text": tokenizer.decode(b.tolist())} for a, b in pairs]
