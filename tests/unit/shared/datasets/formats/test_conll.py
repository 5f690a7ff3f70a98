"""CoNLL columns: every layout gives the same sentences and tags, and what is not one is refused with its place."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nightshift.errors import InvalidRequest
from shared.datasets import formats
from shared.datasets.ingest.build_text import store_text
from shared.datasets.ingest.source_files import open_files
from shared.datasets.store import OpenDataset, open_dataset
from tests.support.dataset_files import zipped

Register = Callable[..., OpenDataset]
Sentences = list[list[tuple[str, str]]]

SENTENCES: Sentences = [
    [("EU", "B-ORG"), ("rejects", "O"), ("German", "B-MISC"), ("call", "O"), (".", "O")],
    [("Peter", "B-PER"), ("Blackburn", "I-PER")],
    [("#", "O"), ("1996-08-22", "O"), ("élan", "O"), ("😀", "O")],
    [("Ada", "B-PER"), ("met", "O"), ("EU", "B-ORG")],
    [("a", "O"), ("German", "B-MISC")],
] * 3


@pytest.fixture
def register(tmp_path: Path) -> Register:
    def register(path: Path, format: str | None = None) -> OpenDataset:
        with open_files(path) as files:
            return open_dataset(store_text(tmp_path / "datasets", formats.read(files, format)).folder)  # type: ignore[arg-type]

    return register


def columns(sentences: Sentences, separator: str = " ", between: tuple[str, ...] = ()) -> str:
    """The sentences in columns, with more of them `between` token and tag."""
    lines = ["".join(separator.join((token, *between, tag)) + "\n" for token, tag in one) for one in sentences]
    return "\n".join(lines)


def tagged(data: OpenDataset, split: str) -> Sentences:
    tags = iter(data.token_tags(split).tolist())
    return [[(token, data.tags[next(tags)]) for token in text.split()] for text in data.documents(split)]


def test_tokens_and_tags_are_stored_as_they_are(tmp_path: Path, register: Register) -> None:
    for part, sentences in (("train", SENTENCES), ("dev", SENTENCES[:2]), ("test", SENTENCES[2:5])):
        (tmp_path / f"my.{part}.conll").write_text(columns(sentences))
    (tmp_path / "README.md").write_text("about")
    data = register(tmp_path)
    assert {split: tagged(data, split) for split in data.splits} == {
        "train": SENTENCES, "valid": SENTENCES[:2], "test": SENTENCES[2:5]
    }  # fmt: skip
    assert (data.tags, data.classes, data.kind) == (["B-MISC", "B-ORG", "B-PER", "I-PER", "O"], [], "text")
    assert (data.meta["tokenised"], data.meta["split"]) == (True, "own")
    assert data.meta["splits"]["valid"] == {
        "count": 2, "bytes": 41, "tokens": 7, "tags": {"B-MISC": 1, "B-ORG": 1, "B-PER": 1, "I-PER": 1, "O": 3}
    }  # fmt: skip
    assert data.token_tags("train").dtype == np.uint16


def conll_u(sentences: Sentences) -> str:
    """The sentences as CoNLL-U, each with a range and an empty node."""
    text = ""
    for number, one in enumerate(sentences):
        text += f"# sent_id = {number}\n# text = a b c d e f g h i\n1-2\tzum\t_\t_\t_\t_\t_\t_\t_\t_\n"
        text += "".join(f"{n}\t{token}\t_\t{tag}\t_\t_\t0\t_\t_\t_\n" for n, (token, tag) in enumerate(one, 1))
        text += "1.1\tleft\t_\tOUT\t_\t_\t_\t_\t_\t_\n\n"
    return text


LAYOUTS = {
    "two columns": ("set.conll", columns(SENTENCES)),
    "four columns": ("set.conll", columns(SENTENCES, between=("NNP", "B-NP"))),
    "tabs": ("set.iob", columns(SENTENCES, "\t")),
    "several spaces": ("set.bio", columns(SENTENCES, "   ")),
    "ends of Windows": ("set.conll", "\ufeff" + columns(SENTENCES).replace("\n", "\r\n")),
    "trailing spaces, blank lines": ("set.conll", "\n \n" + columns(SENTENCES).replace("\n", "  \n") + "\n\n\t\n"),
    "documents": ("set.conll", "-DOCSTART- -X- O\n\n" + columns(SENTENCES).replace("\nAda", "-DOCSTART- O\nAda")),
    "comments": ("set.iob2", "# a comment of some words\n" + columns(SENTENCES).replace("\nAda", "\n# id 7 x=1\nAda")),
    "CoNLL-U": ("set.conllu", conll_u(SENTENCES)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_the_same_sentences_is_the_same_version(
    layout: str, tmp_path: Path, register: Register
) -> None:
    (tmp_path / "plain.conll").write_text(columns(SENTENCES))
    name, text = LAYOUTS[layout]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_bytes(text.encode())
    (tmp_path / "a" / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    wanted = register(tmp_path / "plain.conll").folder
    assert register(tmp_path / "a" / name).folder == wanted
    assert register(tmp_path / "a" / f"{name}.gz").folder == wanted


def test_a_file_of_any_name_is_read_as_columns_if_it_is_said(tmp_path: Path, register: Register) -> None:
    archive = zipped(
        tmp_path / "conll2003.zip", {f"eng.{p}.txt": columns(SENTENCES).encode() for p in ("train", "test")}
    )
    assert tagged(register(archive, "conll"), "test") == SENTENCES
    assert register(archive).tags == []


def test_spaces_inside_a_token_do_not_divide_it(tmp_path: Path, register: Register) -> None:
    (tmp_path / "set.conll").write_text(columns([[("10 000", "B-NUM"), ("\u00a0", "O")]] * 5, "\t"))
    data = register(tmp_path / "set.conll")
    assert list(data.documents("test")) == ["10\u00a0000 \u00a0\n"]
    assert data.token_tags("test").tolist() == [0, 1]


# -- the test part --------------------------------------------------------------------------------


def numbered_sentences(count: int) -> Sentences:
    return [[(f"word{n}", "A"), ("x", "B" if n % 3 else "A")] for n in range(count)]


def test_a_set_without_a_test_part_is_divided_by_sentence(tmp_path: Path, register: Register) -> None:
    sentences = numbered_sentences(100)
    (tmp_path / "set.conll").write_text(columns(sentences))
    data = register(tmp_path / "set.conll")
    train, test = tagged(data, "train"), tagged(data, "test")
    assert (len(train), len(test), data.meta["split"]) == (80, 20, "80/20 by sentence")
    assert sorted(train + test) == sorted(sentences)
    order = [sentences.index(one) for one in train]
    assert order == sorted(order)
    places = [sentences.index(one) for one in test]
    assert max(places) - min(places) > 50, "the test part is drawn from the whole set"
    assert data.meta["splits"]["test"]["tokens"] == 40


def test_the_division_depends_on_the_text_alone(tmp_path: Path, register: Register) -> None:
    sentences = numbered_sentences(100)
    (tmp_path / "one.conll").write_text(columns(sentences))
    (tmp_path / "two.conll").write_text(columns(sentences[1:]))
    one, two = register(tmp_path / "one.conll"), register(tmp_path / "two.conll")
    assert tagged(one, "test") != tagged(two, "test"), "other text, another order"
    (tmp_path / "again.conll").write_text(columns(sentences))
    assert register(tmp_path / "again.conll").folder == one.folder


@pytest.mark.parametrize("seed", range(5))
def test_every_tag_of_the_test_part_is_in_the_training_part(tmp_path: Path, register: Register, seed: int) -> None:
    sentences = [[(f"{seed} {n}".replace(" ", "-"), f"T{n}" if n % 2 else "O")] for n in range(12)]
    (tmp_path / "set.conll").write_text(columns(sentences))
    data = register(tmp_path / "set.conll")
    assert data.count("test") == 2
    assert set(data.token_tags("train").tolist()) == set(range(7))


# -- what is refused ------------------------------------------------------------------------------

GOOD = "EU B-ORG\nis O\n\nGermany B-LOC\nis O\n\n"
BAD: dict[str, tuple[str | bytes, str, tuple[int, ...]]] = {
    "ragged": (GOOD + "EU B-ORG\nis VBZ O\n", "the line has 3 columns, but line 1 has 2 .separated by spaces", (8, 3)),
    "a column too few": (GOOD + "EU\n", "the line has 1 column, but line 1 has 2", (7, 2)),
    "ragged by tabs": ((GOOD + "EU\tB-ORG\tx\n").replace(" ", "\t"), "3 columns, but .* by tabs", (7, 3)),
    "one column": ("EU\nis\n", "has one column", (1, 2)),
    "no tag": (GOOD.replace(" ", "\t") + "EU\t\n", "is empty", (7, 2)),
    "no token": (GOOD.replace(" ", "\t") + " \tO\n", "is empty", (7, 1)),
    "latin-1": (GOOD.encode() + b"\xe9lan O\n", "is not UTF-8 .byte 0xe9", (7,)),
    "UTF-16": (GOOD.encode("utf-16"), "is not UTF-8 .UTF-16", (1,)),
    "NUL": (GOOD + "a\0b O\n", "holds a NUL", (7,)),
    "an unprintable tag": (GOOD + "a \x07\n", "unprintable", (7, 2)),
    "one tag": ("EU O\n\nis O\n", r"has only one tag \(O\)", ()),
    "one sentence": ("EU B-ORG\nis O\n", "has only one sentence", ()),
    "empty": ("\n \n", "is empty", (1,)),
    "CoNLL-U without a number": (
        conll_u(SENTENCES).replace("2\trejects", "x\trejects"), "is 'x', but must be the number of a token", (5, 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_columns_are_refused_with_line_and_column(case: str, tmp_path: Path, register: Register) -> None:
    content, message, place = BAD[case]
    path = tmp_path / "set.conll"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidRequest, match=message) as caught:
        register(path)
    (error,) = caught.value.errors
    assert error.loc == ("file", "set.conll", *place)
    said = "".join(f", {word} {number}" for word, number in zip(("line", "column"), place, strict=False))
    assert caught.value.detail.startswith(f"set.conll{said}: ")
    assert list((tmp_path / "datasets").glob("*")) == []


def test_a_tag_that_the_training_part_does_not_have_is_refused(tmp_path: Path, register: Register) -> None:
    archive = zipped(
        tmp_path / "set.zip", {"train.conll": GOOD.encode(), "test.conll": (GOOD + "Ada B-PER\n").encode()}
    )
    with pytest.raises(InvalidRequest, match="unknown tag 'B-PER': the training part does not have it") as caught:
        register(archive)
    assert caught.value.errors[0].loc == ("file", "test.conll", 7, 2)


def test_a_file_without_blank_lines_is_refused(
    tmp_path: Path, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.datasets.formats.conll.MAX_SENTENCE", 4)
    (tmp_path / "set.conll").write_text(GOOD + "a O\n" * 5)
    with pytest.raises(InvalidRequest, match="line 11: has a sentence of more than 4 tokens"):
        register(tmp_path / "set.conll")


def test_a_column_that_is_no_tag_is_refused(
    tmp_path: Path, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.datasets.formats.conll.MAX_TAGS", 3)
    (tmp_path / "set.conll").write_text("a b\nb c\n\nc d\nd e\n")
    with pytest.raises(InvalidRequest, match="line 5, column 2: has more than 3 different tags"):
        register(tmp_path / "set.conll")
