"""Whatever a document holds: no word is lost or moved, none of its passages is too long, and cutting again changes nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.retrieval.document_reader import with_hash
from fettle.retrieval.passages import cut
from fettle.retrieval.records import Document, PassageSettings, Section

WORDS = st.text(alphabet="abcdeÄß漢字'’()\"", min_size=1, max_size=30)
ENDS = st.sampled_from([" ", " ", " ", ". ", "! ", "? ", "\n", ".\n\n", "\n\n", ", ", "。"])
PROSE = st.lists(st.tuples(WORDS, ENDS), min_size=1, max_size=80).map(lambda pairs: "".join(map("".join, pairs)))
TEXTS = PROSE | st.text(alphabet="ab .\n-`|*1", min_size=1, max_size=200) | st.text(min_size=1, max_size=200)
PATHS = st.lists(st.sampled_from(["A", "B", "A long heading of seven words or so"]), max_size=3).map(tuple)
SECTIONS = st.lists(
    st.builds(Section, text=TEXTS.filter(str.strip), title_path=PATHS, page=st.none() | st.integers(1, 9)),
    min_size=1,
    max_size=8,
).map(tuple)
SETTINGS = st.tuples(st.integers(32, 120), st.floats(0, 0.5)).map(
    lambda sizes: PassageSettings(max_tokens=sizes[0], overlap_tokens=int(sizes[0] * sizes[1]))
)


def bytes_count(texts: Sequence[str]) -> list[int]:
    """As byte-level tokenizers do at their worst: a token for every three bytes begun, and two around."""
    return [2 + -(-len(text.encode("utf-8", "replace")) // 3) for text in texts]


def word_count(texts: Sequence[str]) -> list[int]:
    """A token for every word or mark, and two around."""
    return [2 + len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]


def document_of(sections: tuple[Section, ...], title: str) -> Document:
    clean = tuple(
        Section(text=one.text.encode("utf-8", "replace").decode(), title_path=one.title_path, page=one.page)
        for one in sections
    )
    return with_hash(Document(id="d", source="d", title=title, sections=clean, sha256=""))


@settings(max_examples=60, deadline=None)
@given(
    sections=SECTIONS,
    title=st.sampled_from(["", "Guide", "A title " * 12]),
    sizes=SETTINGS,
    count=st.sampled_from([word_count, bytes_count]),
)
def test_no_passage_is_too_long_and_all_know_their_position(sections, title, sizes, count) -> None:
    document = document_of(sections, title)
    found = cut(document, sizes, count)
    assert max(passage.num_tokens for passage in found) <= sizes.max_tokens
    assert [passage.num_tokens for passage in found] == count([passage.embedded_text for passage in found])
    assert [passage.position for passage in found] == list(range(len(found)))
    assert [passage.id for passage in found] == [f"d#{position}" for position in range(len(found))]
    assert all(passage.text.strip() for passage in found)
    assert cut(document, sizes, count) == found


@settings(max_examples=60, deadline=None)
@given(sections=SECTIONS, sizes=SETTINGS, count=st.sampled_from([word_count, bytes_count]))
def test_without_overlap_the_passages_joined_are_the_document(sections, sizes, count) -> None:
    """Fences of code and headers of tables, which may stand in several parts, are left out."""
    plain = tuple(replace(one, text=re.sub(r"[`|]", "", one.text), title_path=one.title_path[:1]) for one in sections)
    document = document_of(tuple(one for one in plain if one.text.strip()), "Guide")
    if not document.sections:
        return
    found = cut(document, PassageSettings(max_tokens=sizes.max_tokens), count)
    assert _letters(" ".join(passage.text for passage in found)) == _letters(
        " ".join(one.text for one in document.sections)
    )


@settings(max_examples=40, deadline=None)
@given(sections=SECTIONS, sizes=SETTINGS)
def test_every_heading_stands_above_a_passage_or_in_one(sections, sizes) -> None:
    found = cut(document_of(sections, "Guide"), sizes, word_count)
    shown = _letters(" ".join(passage.embedded_text for passage in found))
    assert all(_letters(heading) in shown for one in sections for heading in one.title_path)


def _letters(text: str) -> str:
    """The text without spaces, which are where it was cut."""
    return "".join(text.split())
