"""Token streams: the same tokens as the `tokenizers` library reads from `tokenizer.json`, documents kept apart."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from shared.datasets import formats
from shared.datasets.ingest import tokens, vocabulary
from shared.datasets.ingest.build_text import store_text
from shared.datasets.ingest.source_files import open_files
from shared.datasets.ingest.tokens import open_tokens, token_stream
from shared.datasets.ingest.vocabulary import TokenizerSpec
from shared.datasets.store import open_dataset
from shared.errors import BadData
from tests.unit.shared.datasets.test_registry import source

TEXT = "The cat sat – on the mat_2; don't “stop” \t it!\r\n\nZwölf Boxkämpfer, <unk> & 𝄞 naïve\u0301 café.\n\n" * 40


def stored(folder: Path, text: str, name: str = "text.txt") -> Path:
    (folder / name).write_text(text, newline="")
    with open_files(folder / name) as files:
        return store_text(folder / "datasets", formats.read(files)).folder  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["text.txt", "wiki.tokens"])
@pytest.mark.parametrize("kind", ["word", "char"])
def test_the_library_reads_the_same_tokens(tmp_path: Path, kind: vocabulary.Kind, name: str) -> None:
    folder = stored(tmp_path, TEXT, name)
    stream = open_tokens(token_stream(folder, TokenizerSpec(kind, 30)))
    library = tokenizers.Tokenizer.from_file(str(stream.folder / tokens.TOKENIZER))
    text = (folder / "train.txt").read_text()
    assert library.encode(text).ids == stream.tokens("train").tolist()
    assert stream.tokenizer().encode(text).tolist() == stream.tokens("train").tolist()
    assert stream.vocabulary == stream.tokenizer().size == library.get_vocab_size()
    assert stream.tokens("train").max() < stream.vocabulary


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_texts_in_lower_case_have_the_tokens_of_the_library(tmp_path: Path, kind: vocabulary.Kind) -> None:
    folder = stored(tmp_path, TEXT + "ΟΔΟΣ ΑΣ, İstanbul. THE CAT\n\n" * 40)
    stream = open_tokens(token_stream(folder, TokenizerSpec(kind, 400, lowercase=True)))
    library = tokenizers.Tokenizer.from_file(str(stream.folder / tokens.TOKENIZER))
    loaded = vocabulary.load((stream.folder / tokens.TOKENIZER).read_text())
    text = (folder / "test.txt").read_text()
    assert "THE CAT" in text
    assert library.encode(text).ids == loaded.encode(text).tolist()
    documents = [token for one in open_dataset(folder).documents("test") for token in loaded.encode(one).tolist()]
    assert stream.tokens("test").tolist() == documents
    assert loaded.encode("The CAT").tolist() == loaded.encode("the cat").tolist()
    assert loaded.decode(loaded.encode("THE CAT")) == "the cat"
    assert token_stream(folder, TokenizerSpec(kind, 400)) != stream.folder


def test_words_are_split_as_they_are_encoded_and_keep_their_case() -> None:
    text = "Who, İs <UNK>?\nΣΑΣ <unk> x-Y"
    for lowercase in (False, True):
        spec = TokenizerSpec("word", 100, lowercase)
        tokenizer = vocabulary.train(spec, iter([text]), tokenised=False)
        assert isinstance(tokenizer, vocabulary.WordTokenizer)
        words = tokenizer.split(text)
        assert len(words) == len(tokenizer.encode(text))
        np.testing.assert_array_equal(tokenizer.encode(" ".join(words)), tokenizer.encode(text))
        assert words[:2] == ["Who", ","]
        assert words[-6:] == [vocabulary.EOS, "ΣΑΣ", vocabulary.UNK, "x", "-", "Y"]
        assert tokenizer.split(text, 3) == words[:3]
    longer = [character for character in map(chr, range(0x110000)) if len(vocabulary.lower(character)) != 1]
    assert longer == ["İ"], "what `split` replaces"


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_documents_are_kept_apart(tmp_path: Path, kind: vocabulary.Kind) -> None:
    folder = stored(tmp_path, "one two\n\nthree four five\n\nsix\n\nseven\n\neight nine")
    stream = open_tokens(token_stream(folder, TokenizerSpec(kind, 300)))
    tokenizer, bounds = stream.tokenizer(), stream.document_bounds("train")
    found = [tokenizer.decode(stream.tokens("train")[a:b]) for a, b in pairwise(bounds.tolist())]
    assert [text.strip() for text in found] == ["one two", "three four five", "six", "seven"]
    assert bounds[-1] == len(stream.tokens("train"))


def test_words_are_numbered_by_frequency_and_the_rest_is_unknown(tmp_path: Path) -> None:
    folder = stored(tmp_path, "b b b a a <unk> c\n" * 10)
    tokenizer = open_tokens(token_stream(folder, TokenizerSpec("word", 4))).tokenizer()
    assert tokenizer.encode("b a c <unk>\n").tolist() == [2, 3, 0, 0, 1]
    assert (tokenizer.size, tokenizer.eos_id) == (4, 1)
    assert tokenizer.decode([2, 3, 1, 2]) == "b a\nb"


def test_each_specification_has_a_stream_of_its_own(tmp_path: Path) -> None:
    folder = stored(tmp_path, TEXT)
    specs = [TokenizerSpec("word", 30, lower, count) for lower in (False, True) for count in (1, 2)]
    assert len({token_stream(folder, spec) for spec in specs}) == len(specs)


@pytest.mark.parametrize("kind", ["word", "char"])
def test_what_is_too_rare_is_unknown(tmp_path: Path, kind: vocabulary.Kind) -> None:
    folder = stored(tmp_path, "a b a b a c\n\na b q\n\na z")
    every, frequent = (
        open_tokens(token_stream(folder, TokenizerSpec(kind, 300, min_count=count))).tokenizer() for count in (1, 3)
    )
    assert every.decode(every.encode("a b c q")) == "a b c q"
    unknown = frequent.encode("c")[0]
    assert unknown == 0
    assert [token == unknown for token in frequent.encode("abq" if kind == "char" else "a b q")] == [False, False, True]


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_any_text_comes_back_whole(tmp_path: Path, kind: vocabulary.Kind) -> None:
    text = TEXT.replace("\r", "").replace("<unk>", "")
    tokenizer = open_tokens(token_stream(stored(tmp_path, text), TokenizerSpec(kind, 1000))).tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_stream_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored(tmp_path, TEXT)
    first = token_stream(folder, TokenizerSpec("word", 30))
    monkeypatch.setattr(vocabulary, "train", None)
    assert token_stream(folder, TokenizerSpec("word", 30)) == first
    assert [found.name for found in folder.iterdir() if found.name.startswith(".")] == []


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_another_text_is_encoded_by_a_model_s_own_tokenizer(tmp_path: Path, kind: vocabulary.Kind) -> None:
    first = open_tokens(token_stream(stored(tmp_path, TEXT), TokenizerSpec(kind, 300)))
    kept = (first.folder / tokens.TOKENIZER).read_text()
    second = open_tokens(
        token_stream(stored(tmp_path, "The cat sat.\n\nThe dog ran ☂\n\nThe end\n\n\nx", "b.txt"), kept)
    )
    assert (second.folder / tokens.TOKENIZER).read_text() == kept
    assert second.vocabulary == first.vocabulary
    assert second.tokenizer().decode(second.tokens("train")).replace(" ", "").startswith("Thecatsat.\n")


@pytest.mark.parametrize("piece", [1, 7, 50])
def test_tokens_do_not_depend_on_how_the_text_is_cut(
    tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = open_tokens(token_stream(stored(tmp_path, TEXT), TokenizerSpec("word", 40)))
    monkeypatch.setattr(tokens, "_PIECE_BYTES", piece)
    (tmp_path / "again").mkdir()
    pieces = open_tokens(token_stream(stored(tmp_path / "again", TEXT), TokenizerSpec("char", 999)))
    assert pieces.tokenizer().decode(pieces.tokens("train")) == (whole.folder.parent / "train.txt").read_text()
    if piece > 20:  # longer than any word
        words = open_tokens(token_stream(pieces.folder.parent, TokenizerSpec("word", 40)))
        assert np.array_equal(words.tokens("train"), whole.tokens("train"))
        assert np.array_equal(words.document_bounds("train"), whole.document_bounds("train"))


def test_what_cannot_be_tokenised_says_why(tmp_path: Path) -> None:
    from shared.datasets.ingest.build import store_images

    images = store_images(tmp_path / "datasets", source()).folder
    with pytest.raises(BadData, match="holds image"):
        token_stream(images, TokenizerSpec())
    text = stored(tmp_path, TEXT)
    with pytest.raises(BadData, match="at least 258"):
        token_stream(text, TokenizerSpec("bpe", 100))
    for bad in (
        "",
        "{}",
        '{"model": {"type": "WordLevel", "vocab": {"a": 7}}, "pre_tokenizer": {"pattern": {"Regex": "x"}}}',
    ):
        with pytest.raises(BadData, match=r"tokenizer\.json"):
            token_stream(text, bad)
