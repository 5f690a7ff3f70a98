"""Tokenizers: trained on a text and stored as a `tokenizer.json` that the `tokenizers` library can read.

word    id 0 `<unk>`, 1 `<eos>` (one per line), then words, most frequent first. Text that is already tokenized is split
        at spaces only; other text also around punctuation.
char    id 0 `<unk>`, then the characters in order of their code points.
bpe     byte-level byte-pair encoding (Sennrich et al. 2016; bytes as in GPT-2): no text is unknown.

Word and char are encoded here, several times faster than by the library; tests check that the ids are equal.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from shared.datasets.token_counts import SMALLEST_BPE
from shared.errors import BadData
from shared.lazy_numpy import np
from shared.optional_imports import need

if TYPE_CHECKING:
    import numpy.typing as npt

UNK, EOS = "<unk>", "<eos>"
Kind = Literal["word", "bpe", "char"]
Ids: TypeAlias = "npt.NDArray[np.uint32]"

#: ASCII punctuation except `_`, and common typographic signs. Explicit, so that all regex engines agree.
_PUNCTUATION = r"!-/:-@\[-\^`{-~–—‘’“”„«»…"
_BY_SPACE = r"[^ \t\r\n]+"
_BY_PUNCTUATION = rf"{UNK}|{EOS}|[^ \t\r\n{_PUNCTUATION}]+|[{_PUNCTUATION}]"
_ANY_CHARACTER = r"[\s\S]"

#: Distinct words counted at a time; above it words seen once are dropped. Too low: rare words are missed.
MAX_COUNTED = 10_000_000
#: Text that byte-pair merges are learned from (bytes); more changes few merges and takes memory.
BPE_SAMPLE_BYTES = 300_000_000


@dataclass(frozen=True)
class TokenizerSpec:
    """Kind and size of a tokenizer to train. `size`: most tokens it may have, including special ones."""

    kind: Kind = "word"
    size: int = 10_000
    #: Convert texts to lower case first.
    lowercase: bool = False
    #: Words and characters that occur fewer times are unknown.
    min_count: int = 1


class TextTokenizer(Protocol):
    """Interface of all tokenizers."""

    kind: Kind
    eos_id: int | None

    @property
    def size(self) -> int:
        """Return the number of tokens; ids are 0 … size - 1."""
        ...

    def encode(self, text: str) -> Ids:
        """Return the ids of a text, uint32 [tokens]."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of each text."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids."""
        ...

    def to_json(self) -> str:
        """Return the text of a `tokenizer.json`."""
        ...


# -- word and char --------------------------------------------------------------------------------


class _ListedTokenizer:
    """A tokenizer whose tokens are the entries of its vocabulary."""

    def __init__(self, vocabulary: dict[str, int], *, lowercase: bool = False) -> None:
        self._ids = vocabulary
        self._names = sorted(vocabulary, key=vocabulary.__getitem__)
        self._lowercase = lowercase

    @property
    def size(self) -> int:
        return len(self._ids)

    def encode(self, text: str) -> Ids:
        raise NotImplementedError

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        return [self.encode(text) for text in texts]


class WordTokenizer(_ListedTokenizer):
    """Tokens are words; unknown words become `<unk>`."""

    kind: Kind = "word"

    def __init__(self, vocabulary: dict[str, int], pattern: str, *, lowercase: bool = False) -> None:
        super().__init__(vocabulary, lowercase=lowercase)
        self._pattern = pattern
        self._words = re.compile(pattern)
        self.eos_id: int | None = vocabulary[EOS]

    def encode(self, text: str) -> Ids:
        ids, unknown = self._ids, self._ids[UNK]
        words = self._words.findall(_with_ends(lower(text) if self._lowercase else text))
        return np.array([ids.get(word, unknown) for word in words], np.uint32)

    def split(self, text: str, most: int | None = None) -> list[str]:
        """Return the first words of a text as they are written: one for each id of `encode`."""
        text = _with_ends(text)
        if self._lowercase:
            text = text.replace("İ", "i̇")  # else lower case would be longer, and the places would not be the same
        places = self._words.finditer(lower(text) if self._lowercase else text)
        return [text[slice(*place.span())] for place in islice(places, most)]

    def decode(self, ids: Iterable[int]) -> str:
        return re.sub(rf" ?{EOS} ?", "\n", " ".join(self._names[i] for i in ids))

    def to_json(self) -> str:
        return _word_level(self._ids, self._pattern, newline=f" {EOS} ", lowercase=self._lowercase)


def _with_ends(text: str) -> str:
    return text.replace("\n", f" {EOS} ")


def count_words(text: str, *, tokenised: bool) -> int:
    """Count the tokens of a text under a word tokenizer; the vocabulary does not matter."""
    return len(re.findall(_word_pattern(tokenised=tokenised), _with_ends(text)))


def words_of(text: str, *, tokenised: bool) -> list[str]:
    """Return the words of a text, as a word tokenizer splits it, without the ends of lines."""
    return re.findall(_word_pattern(tokenised=tokenised), text)


def _word_pattern(*, tokenised: bool) -> str:
    return _BY_SPACE if tokenised else _BY_PUNCTUATION


class CharTokenizer(_ListedTokenizer):
    """Tokens are characters; unknown ones become `<unk>`."""

    kind: Kind = "char"
    eos_id: int | None = None

    def __init__(self, vocabulary: dict[str, int], *, lowercase: bool = False) -> None:
        super().__init__(vocabulary, lowercase=lowercase)
        self._table = np.full(0x110000, vocabulary[UNK], np.uint32)
        for char, index in vocabulary.items():
            if char != UNK:
                self._table[ord(char)] = index

    def encode(self, text: str) -> Ids:
        text = lower(text) if self._lowercase else text
        return self._table[np.frombuffer(text.encode("utf-32-le"), np.uint32)]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join("\N{REPLACEMENT CHARACTER}" if (c := self._names[i]) == UNK else c for i in ids)

    def to_json(self) -> str:
        return _word_level(self._ids, _ANY_CHARACTER, newline=None, lowercase=self._lowercase)


def lower(text: str) -> str:
    """Convert each character to lower case by itself, as the library does; Python treats a final sigma otherwise."""
    return text.replace("Σ", "σ").lower()


def _word_level(vocabulary: dict[str, int], pattern: str, newline: str | None, *, lowercase: bool) -> str:
    library = need("tokenizers", "tokenizers")
    tokenizer = library.Tokenizer(library.models.WordLevel(vocabulary, unk_token=UNK))
    steps = [library.normalizers.Lowercase()] if lowercase else []
    steps += [library.normalizers.Replace("\n", newline)] if newline else []
    if steps:
        tokenizer.normalizer = library.normalizers.Sequence(steps) if len(steps) > 1 else steps[0]
    tokenizer.pre_tokenizer = library.pre_tokenizers.Split(library.Regex(pattern), "removed", invert=True)
    return str(tokenizer.to_str())


# -- bpe ------------------------------------------------------------------------------------------


class BpeTokenizer:
    """Byte-level byte-pair encoding by the `tokenizers` library."""

    kind: Kind = "bpe"
    eos_id: int | None = None

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @property
    def size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> Ids:
        return np.array(self._tokenizer.encode(text).ids, np.uint32)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        return [np.array(found.ids, np.uint32) for found in self._tokenizer.encode_batch_fast(list(texts))]

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def to_json(self) -> str:
        return str(self._tokenizer.to_str())


# -- making and loading ---------------------------------------------------------------------------


def train(spec: TokenizerSpec, texts: Iterator[str], *, tokenised: bool) -> TextTokenizer:
    """Train a tokenizer on pieces of text. Raises BadData if the vocabulary of `spec` is too small."""
    texts = map(lower, texts) if spec.lowercase and spec.kind != "bpe" else texts
    match spec.kind:
        case "word":
            return _train_word(spec, texts, _word_pattern(tokenised=tokenised))
        case "char":
            return _train_char(spec, texts)
        case "bpe":
            return _train_bpe(spec, texts)


def _train_word(spec: TokenizerSpec, texts: Iterator[str], pattern: str) -> WordTokenizer:
    words, counts = re.compile(pattern), Counter[str]()
    for text in texts:
        counts.update(words.findall(text))
        if len(counts) > MAX_COUNTED:
            counts = Counter({word: count for word, count in counts.items() if count > 1})
    del counts[UNK], counts[EOS]
    frequent = (item for item in counts.items() if item[1] >= spec.min_count)
    kept = sorted(frequent, key=lambda item: (-item[1], item[0]))[: max(0, spec.size - 2)]
    names = [UNK, EOS, *(word for word, _ in kept)]
    return WordTokenizer({name: index for index, name in enumerate(names)}, pattern, lowercase=spec.lowercase)


def _train_char(spec: TokenizerSpec, texts: Iterator[str]) -> CharTokenizer:
    counts = np.zeros(0x110000, np.int64)
    for text in texts:
        codes, found = np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_counts=True)
        counts[codes] += found
    frequent = np.argsort(-counts, kind="stable")[
        : min(max(1, spec.size - 1), int(np.count_nonzero(counts >= spec.min_count)))
    ]
    names = [UNK, *map(chr, sorted(frequent.tolist()))]
    return CharTokenizer({name: index for index, name in enumerate(names)}, lowercase=spec.lowercase)


def _train_bpe(spec: TokenizerSpec, texts: Iterator[str]) -> BpeTokenizer:
    size = spec.size
    if size < SMALLEST_BPE:
        raise BadData(f"a byte-pair vocabulary needs at least {SMALLEST_BPE} tokens, not {size}; raise vocabulary_size")
    library = need("tokenizers", "tokenizers")
    tokenizer = library.Tokenizer(library.models.BPE())
    if spec.lowercase:
        tokenizer.normalizer = library.normalizers.Lowercase()
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[UNK, EOS],
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample(texts), trainer)
    return BpeTokenizer(tokenizer)


def _sample(texts: Iterator[str]) -> Iterator[str]:
    seen = 0
    for text in texts:
        yield text
        seen += len(text)
        if seen >= BPE_SAMPLE_BYTES:
            return


def load(tokenizer_json: str) -> TextTokenizer:
    """Load a tokenizer from a `tokenizer.json` that `to_json` wrote. Raises BadData for any other."""
    try:
        document = json.loads(tokenizer_json)
        model = document["model"]
        if model["type"] == "BPE":
            return BpeTokenizer(need("tokenizers", "tokenizers").Tokenizer.from_str(tokenizer_json))
        vocabulary, pattern = model["vocab"], document["pre_tokenizer"]["pattern"]["Regex"]
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise ValueError("ids have gaps")
        lowercase = '"Lowercase"' in json.dumps(document.get("normalizer"))
        if pattern == _ANY_CHARACTER:
            return CharTokenizer(vocabulary, lowercase=lowercase)
        if pattern in (_BY_SPACE, _BY_PUNCTUATION):
            return WordTokenizer(vocabulary, pattern, lowercase=lowercase)
    except (ValueError, KeyError, TypeError) as error:
        raise BadData(f"the tokenizer.json cannot be read ({error})") from error
    raise BadData(
        "the tokenizer.json was not made by Nightshift; only its word, char and byte-pair kinds are supported"
    )
