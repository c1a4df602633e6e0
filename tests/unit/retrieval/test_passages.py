"""How a document is cut: where, how large, and what each passage knows of its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest

from fettle.errors import ConfigError
from fettle.retrieval.blocks import blocks_of, sentences_of, words_of
from fettle.retrieval.document_reader import with_hash
from fettle.retrieval.embedder import MiniLMEmbedder
from fettle.retrieval.passages import cut
from fettle.retrieval.records import Document, Passage, PassageSettings, Section

SMALL = PassageSettings(max_tokens=40)


class WordCounter:
    """A token is a word or a mark, and two stand around every text; remembers how often it was called."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, texts: Sequence[str]) -> list[int]:
        self.num_calls += 1
        return [2 + len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]


def document_of(*sections: Section, title: str = "Guide") -> Document:
    return with_hash(
        Document(id="d", source="d.md", title=title, sections=sections, sha256="", attributes={"lang": "en"})
    )


def passages_of(*sections: Section, settings: PassageSettings = SMALL, title: str = "Guide") -> tuple[Passage, ...]:
    return cut(document_of(*sections, title=title), settings, WordCounter())


def words(count: int, name: str = "word") -> str:
    return " ".join(f"{name}{number}" for number in range(count))


def sentences(count: int, length: int = 9) -> str:
    return " ".join(f"Sentence{number} {words(length - 2)}." for number in range(count))


def test_a_section_that_fits_is_one_passage_that_knows_its_place() -> None:
    (passage,) = passages_of(Section(text="Ten days.", title_path=("Cards",), page=3))
    assert (passage.id, passage.document_id, passage.source, passage.position, passage.page) == (
        "d#0",
        "d",
        "d.md",
        0,
        3,
    )
    assert (passage.heading, passage.text, passage.attributes) == ("Guide > Cards", "Ten days.", {"lang": "en"})
    assert passage.num_tokens == WordCounter()([passage.embedded_text])[0]


def test_passages_are_cut_at_paragraphs_where_they_fit() -> None:
    first, second, third = words(20, "a"), words(20, "b"), words(12, "c")
    found = passages_of(Section(text=f"{first}\n\n{second}\n\n{third}"))
    assert [passage.text for passage in found] == [first, f"{second}\n\n{third}"]


def test_a_long_paragraph_is_cut_at_sentences_into_parts_of_nearly_one_size() -> None:
    found = passages_of(Section(text=sentences(5)))
    assert [passage.text.count("Sentence") for passage in found] == [3, 2]
    assert all(passage.text.endswith(".") for passage in found)


def test_a_sentence_longer_than_a_passage_is_cut_at_words() -> None:
    text = words(100)
    found = passages_of(Section(text=text))
    assert " ".join(passage.text for passage in found) == text
    assert max(passage.num_tokens for passage in found) <= SMALL.max_tokens


def test_a_word_longer_than_a_passage_is_cut_anywhere() -> None:
    text = "x" * 5000
    found = passages_of(Section(text=text))  # one token, by this counter
    assert "".join(passage.text for passage in found) == text
    assert max(len(passage.text) for passage in found) <= 16 * SMALL.max_tokens


def test_overlap_repeats_whole_sentences_of_the_passage_before() -> None:
    settings = PassageSettings(max_tokens=40, overlap_tokens=12)
    found = passages_of(Section(text=sentences(6)), settings=settings)
    assert len(found) > 1
    for earlier, later in pairwise(found):
        assert later.text.startswith(sentences_of(earlier.text)[-1].strip())
    assert max(passage.num_tokens for passage in found) <= settings.max_tokens


def test_overlap_never_crosses_a_heading() -> None:
    sections = [Section(text=sentences(6), title_path=(name,)) for name in ("A", "B")]
    found = passages_of(*sections, settings=PassageSettings(max_tokens=40, overlap_tokens=12))
    first_of_b = next(passage for passage in found if passage.title_path == ("B",))
    assert first_of_b.text.startswith("Sentence0")


def test_every_part_of_a_table_has_its_header() -> None:
    rows = [f"| {number} | fee{number} |" for number in range(30)]
    found = passages_of(
        Section(text="\n".join(["| Zone | Fee |", "| --- | --- |", *rows])), settings=PassageSettings(max_tokens=80)
    )
    assert len(found) > 2
    assert all(passage.text.startswith("| Zone | Fee |\n| --- | --- |\n| ") for passage in found)
    assert [row for passage in found for row in passage.text.split("\n")[2:]] == rows


def test_every_part_of_code_stands_between_fences_and_keeps_its_indents() -> None:
    lines = [f"    call({number})" if number % 5 else "" for number in range(40)]
    found = passages_of(Section(text="\n".join(["```py", *lines, "```"])))
    assert len(found) > 2
    assert all(passage.text.startswith("```py\n") and passage.text.endswith("\n```") for passage in found)
    kept = [line for passage in found for line in passage.text.split("\n")[1:-1] if line]
    assert kept == [line for line in lines if line]


def test_sections_under_different_headings_never_share_a_passage() -> None:
    sections = [
        Section(text="Before all."),
        Section(text="All fees.", title_path=("Fees",)),
        Section(text="Free.", title_path=("Fees", "Zone 1")),
        Section(text="4.90.", title_path=("Fees", "Zone 2")),
    ]
    found = passages_of(*sections)
    assert [(passage.title_path, passage.text) for passage in found] == [(one.title_path, one.text) for one in sections]


def test_pages_of_one_section_run_on_and_a_passage_has_the_page_it_begins_on() -> None:
    sections = [
        Section(text=words(15, name), title_path=("A",), page=page) for page, name in enumerate("pqrs", start=1)
    ]
    found = passages_of(*sections)
    assert [(passage.page, passage.text.count("\n\n")) for passage in found] == [(1, 1), (3, 1)]


def test_headings_that_leave_no_room_stand_in_the_text() -> None:
    heading, title = words(30, "heading"), words(30, "title")
    found = passages_of(Section(text=sentences(5), title_path=(heading,)), title=title)
    assert max(passage.num_tokens for passage in found) <= SMALL.max_tokens
    joined = " ".join(passage.text for passage in found).split()
    assert joined == f"{heading} {sentences(5)}".split()
    assert title.startswith(found[0].title)


def test_a_short_document_is_counted_in_one_call_and_a_long_one_in_few() -> None:
    counter = WordCounter()
    cut(document_of(Section(text="Short.")), SMALL, counter)
    assert counter.num_calls == 1
    counter = WordCounter()
    found = cut(document_of(Section(text="\n\n".join(words(30) for _ in range(500)))), SMALL, counter)
    assert len(found) == 500
    assert counter.num_calls <= 4


@pytest.mark.parametrize(("max_tokens", "overlap_tokens"), [(10, 0), (100, 51), (100, -1)])
def test_sizes_that_cannot_be_are_refused(max_tokens: int, overlap_tokens: int) -> None:
    with pytest.raises(ConfigError):
        passages_of(Section(text="x"), settings=PassageSettings(max_tokens=max_tokens, overlap_tokens=overlap_tokens))


@pytest.mark.parametrize(
    "wanted",
    [
        ["Dr. Weiss paid $3.50 to Mr. Jones Jr. ", "He left at 5 p.m. on Monday."],
        ["See Fig. 3 and No. 5. ", "Version 2.0.1 is at example.com. ", "It works!"],
        ["The U.S. Army came, e.g. by sea. ", "It won. ", "Really?"],
        ['She said "Go home." ', "Then she left."],
        ["Das kostet z. B. 3,50 Euro. ", "Dr. Müller kommt."],
        ["これは文です。", "次の文です！"],
    ],
)
def test_sentences_end_where_people_end_them(wanted: list[str]) -> None:
    assert sentences_of("".join(wanted)) == wanted


def test_blocks_are_told_apart_and_joined_give_the_text() -> None:
    parts = [
        "One. Two.",
        "- a\n- b\n  ```\n  x\n\n  y\n  ```",
        "| a |\n| --- |\n| 1 |",
        "````\n```\n\n```\n````",
        "1. x\n2. y",
    ]
    found = list(blocks_of("\n\n".join(parts)))
    assert [block.whole for block in found] == parts
    assert [block.is_lines for block in found] == [False, True, True, True, True]


def test_an_unclosed_fence_is_text() -> None:
    assert [block.whole for block in blocks_of("```py\na\n\nb")] == ["```py\na\n\nb"]


def test_words_are_divided_only_beyond_the_bound() -> None:
    assert words_of("a bc  defgh", 3) == ["a ", "bc ", " ", "def", "gh"]


def test_the_packaged_embedder_never_gets_more_than_it_was_asked_for() -> None:
    embedder = MiniLMEmbedder()
    text = "\n\n".join(["Überweisung 漢字仮名交じり文。" * 60, sentences(40), "x" * 3000, "naïve " * 300])
    found = cut(
        document_of(Section(text=text, title_path=("Ä", "漢字"))), PassageSettings(max_tokens=64), embedder.count_tokens
    )
    assert [passage.num_tokens for passage in found] == embedder.count_tokens(
        [passage.embedded_text for passage in found]
    )
    assert max(passage.num_tokens for passage in found) <= 64
    assert "".join("".join(passage.text for passage in found).split()) == "".join(text.split())
