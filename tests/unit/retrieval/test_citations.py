from __future__ import annotations

import pytest

from fettle.records import Message
from fettle.retrieval.citations import read_citations, with_citations
from fettle.retrieval.question import question_of, question_of_example
from found_passages import asked


@pytest.mark.parametrize(
    ("text", "bare", "numbers"),
    [
        ("France [1]", "France", (1,)),
        ("France[1]", "France", (1,)),
        ("France [1].", "France.", (1,)),
        ("France. [1]", "France.", (1,)),
        ("France [1] [3]", "France", (1, 3)),
        ("France [1, 3; 1]", "France", (1, 3)),
        ("In France [2]. In 1066 [1][2].", "In France. In 1066.", (2, 1)),
        ("In France. [2] In 1066. [1]", "In France. In 1066.", (2, 1)),
        ("- France [2]\n- Spain [3]", "- France\n- Spain", (2, 3)),
        ("[2]", "", (2,)),
        ("France", "France", ()),
        ("", "", ()),
        ("Take item[2] of the list.", "Take item[2] of the list.", ()),
        ("See [x] and [1234]", "See [x] and [1234]", ()),
        ("  France  ", "  France  ", ()),
    ],
)
def test_numbers_at_the_ends_of_sentences_are_citations(text: str, bare: str, numbers: tuple[int, ...]) -> None:
    found = read_citations(text)
    assert (found.text, found.numbers) == (bare, numbers)


def test_no_numbers_no_brackets() -> None:
    assert with_citations("France ", []) == "France "


def test_a_question_is_understood_with_the_one_before_it_and_nothing_that_was_answered() -> None:
    turns = [Message(role="system", content="Be brief.")]
    for text in ("one", "two", "three"):
        turns += [Message(role="user", content=text), Message(role="assistant", content=f"secret {text}")]
    assert question_of(turns) == "three\ntwo"
    assert question_of(turns[:3]) == "one"
    assert question_of(turns[:1]) == "Be brief."
    assert question_of(()) == ""


def test_an_example_is_searched_for_without_its_answer() -> None:
    assert question_of_example(asked("Where?", "secret", documents=["secret.md"])) == "Where?"
