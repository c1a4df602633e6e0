"""Examples and documents that do not go together, and an index that changes under a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fettle.errors import StudyConflictError
from fettle.records import Example, Location, Message, Severity, Split
from fettle.retrieval.records import Found, Passage, PassageSettings
from fettle.study.document_findings import document_findings, has_own_numbers, is_known, number_findings
from fettle.study.documents import SteadySearch, _name_of
from fettle.study.settings import DocumentSettings


def question(number: int, text: str, answer: str, documents: tuple[str, ...] | None = None) -> Example:
    turns = (Message(role="user", content=text), Message(role="assistant", content=answer))
    return Example(
        id=f"q{number}", messages=turns, source=Location(file="q.jsonl", line=number), document_ids=documents
    )


class Shelf:
    """One document, `faq.csv:2`, which is found for everything."""

    PASSAGE = Passage(
        id="faq.csv:2#0",
        document_id="faq.csv:2",
        source="faq.csv:2",
        title="Where is the key?",
        title_path=(),
        position=0,
        page=None,
        text="Under the mat.",
        num_tokens=8,
    )

    @property
    def lookup(self) -> Shelf:
        return self

    def of_document(self, document_id: str) -> tuple[Passage, ...]:
        return (self.PASSAGE,) if document_id == self.PASSAGE.document_id else ()

    def retriever(self, **_more: object) -> Shelf:
        return self

    def search_all(self, questions: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        return tuple((Found(passage=self.PASSAGE, rank=1, score=1.0),) for _ in questions)

    def search(self, question: str, *, where: object = None) -> tuple[Found, ...]:
        return self.search_all([question])[0]

    def describe(self) -> str:
        return "a shelf"

    def identity(self) -> str:
        return "shelf"


def split(*test: Example, train: tuple[Example, ...] = ()) -> Split:
    return Split(train=train, valid=(), test=test, cluster_by_id={}, seed=0)


def test_documents_that_the_index_does_not_have_are_told_with_the_first_row() -> None:
    known = question(1, "Where?", "There.", ("faq.csv:2",))
    strange = question(2, "When?", "Then.", ("faq.csv:3", "faq.csv:2"))
    examples = split(known, train=(strange, question(3, "Why?", "So.", ())))
    [finding] = document_findings(examples, Shelf())  # pyright: ignore[reportArgumentType] (as much of it as is asked)
    assert (finding.code, finding.file, finding.line) == ("unknown-documents", "q.jsonl", 2)
    assert "1 of 3 examples" in finding.message
    assert "'faq.csv:3'" in finding.message
    assert [is_known(one, Shelf()) for one in (known, strange, question(4, "?", "!", ("x",)))] == [True, True, False]  # pyright: ignore[reportArgumentType]


def test_test_questions_that_the_documents_repeat_with_their_answers_are_told() -> None:
    told = question(1, "where is the KEY", "under the mat!")
    others = [
        question(2, "Where is the key?", "In the drawer."),  # another answer
        question(3, "Where is the keyboard?", "Under the mat."),  # another question
        question(4, "", "Under the mat."),
    ]
    [finding] = document_findings(split(*others, told), Shelf())  # pyright: ignore[reportArgumentType]
    assert (finding.code, finding.line) == ("answer-in-documents", 1)
    assert "1 of 4 test questions" in finding.message
    assert "faq.csv:2#0" in finding.message


def test_answers_that_are_cut_into_several_passages_are_told_too() -> None:
    steps = [f"Step {number}: take the red form to the desk on floor {number} and sign it." for number in range(9)]
    parts = [
        replace(Shelf.PASSAGE, id=f"faq.csv:2#{place}", text=" ".join(steps[3 * place :][:3])) for place in range(3)
    ]

    class LongShelf(Shelf):
        def search_all(self, questions: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
            return tuple(tuple(Found(passage=one, rank=1, score=1.0) for one in parts) for _ in questions)

    told = question(1, "Where is the key?", " ".join(steps))
    other = question(2, "Where is the key?", " ".join(reversed(steps)))
    elsewhere = question(3, "How do I get a key?", " ".join(steps))
    [finding] = document_findings(split(other, elsewhere, told), LongShelf())  # pyright: ignore[reportArgumentType]
    assert (finding.code, finding.line) == ("answer-in-documents", 1)
    assert "1 of 3 test questions" in finding.message


def test_questions_in_system_messages_are_told_and_searched_for() -> None:
    asking = replace(question(2, "Answer this.", "So."), context="Where is the lift?")
    [finding] = document_findings(split(question(1, "Where?", "There."), train=(asking,)), Shelf())  # pyright: ignore[reportArgumentType]
    assert (finding.code, finding.line, finding.severity) == ("system-message-searched", 2, Severity.INFO)
    assert "1 of 2 examples" in finding.message


def test_answers_with_numbers_of_their_own_are_told_and_name_no_passages() -> None:
    """They may come from another search: its numbers would be taken off what a model says, and stay in what is wanted."""
    plain = [question(number, "How long?", "Five days, see a[2] of it.") for number in range(19)]
    numbered = question(20, "How long?", "Five days [2].")
    assert not has_own_numbers([*plain, numbered])
    assert not list(number_findings([*plain, numbered]))
    train = [*plain, numbered, question(21, "And then?", "Ask us. [1][3]")]
    assert has_own_numbers(train)
    [finding] = number_findings(train)
    assert (finding.code, finding.line) == ("own-numbers", 20)
    assert "2 of 21 training answers" in finding.message
    assert not has_own_numbers([])


def test_a_search_of_an_index_that_has_changed_finds_nothing() -> None:
    def changed() -> None:
        raise StudyConflictError("the index was changed while the study ran")

    steady, torn = (SteadySearch(Shelf(), check) for check in (lambda: None, changed))  # pyright: ignore[reportArgumentType]
    assert steady.search("Where?") == steady.search_all(["Where?"])[0]
    assert steady.identity() == torn.identity() == "shelf"
    for search in (lambda: torn.search("Where?"), lambda: torn.search_all(["Where?"])):
        with pytest.raises(StudyConflictError, match="changed while the study ran"):
            search()


def test_the_index_of_a_place_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def name(place: str, **more: PassageSettings | str) -> str:
        return _name_of(DocumentSettings(place=place, **more))  # pyright: ignore[reportArgumentType]

    monkeypatch.chdir(tmp_path)
    assert name("manual") == name(str(tmp_path / "manual")) == f"study of {tmp_path / 'manual'}"
    assert name("s3://bucket/manual") == "study of s3://bucket/manual"
    assert name("zip://a.txt::manual.zip") == "study of zip://a.txt::manual.zip"
    others = {name("manual"), name("manual", embedder="e5"), name("manual", passages=PassageSettings(max_tokens=100))}
    assert len(others) == 3
