"""Whatever a document holds, a conversation keeps its structure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chat_templates import CHATML
from fettle.chat.renderer import ChatRenderer
from fettle.records import Message
from fettle.retrieval.citations import read_citations, with_citations
from fettle.retrieval.fence import Wording, passage_block, shown_with
from found_passages import found, passage
from tiny_models import SPECIAL_TOKENS, tiny_tokenizer

PIECES = st.sampled_from(
    [*SPECIAL_TOKENS, "<think>", "[INST]", "[2]", "> ", "\n", "\r", "\u2028", "\x1d", "\u200b", "<", "|"]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=12).map("".join)
CHAT = ChatRenderer(tiny_tokenizer(CHATML))
ASKED = [Message(role="user", content="Where?")]


@given(text=TEXTS, title=TEXTS, source=TEXTS)
def test_every_line_of_a_document_is_marked_and_no_other(text: str, title: str, source: str) -> None:
    block = passage_block([passage("a", text, title=title, source=source), passage("b", "x")])
    ours = [line for line in block.splitlines() if not line.startswith(">")]
    assert ours == [
        line for line in passage_block([passage("a", "y"), passage("b", "x")]).splitlines() if line[:1] != ">"
    ]


@given(text=TEXTS)
def test_no_special_token_comes_out_of_a_document(text: str) -> None:
    added = set(CHAT.tokenizer.added_tokens_decoder)
    structures = [
        [
            token
            for token in CHAT.prompt_tokens(shown_with(ASKED, found(passage("a", one)), Wording()))
            if token in added
        ]
        for one in (text, "x")
    ]
    assert structures[0] == structures[1]


@given(
    words=st.lists(st.sampled_from(["Five", "days", "1931", "a[2]", "(see"]), min_size=1).map(" ".join),
    end=st.sampled_from(["", ".", "!", "?"]),
    numbers=st.lists(st.integers(1, 99), unique=True, max_size=4),
)
def test_citations_are_read_as_they_were_written(words: str, end: str, numbers: list[int]) -> None:
    text = words + ("" if words.endswith("]") and not end else end)
    if text.removesuffix(end).endswith("]"):
        return  # brackets at the end of an answer are citations
    read = read_citations(with_citations(text, numbers))
    assert read.numbers == tuple(numbers)
    assert read.text == text
